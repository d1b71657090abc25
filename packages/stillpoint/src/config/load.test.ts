import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isFailure } from '@stillpoint/core/kernel'
import { describe, expect, onTestFinished, test } from 'vitest'
import { z } from 'zod'
import { configBytesMax, loadConfig, parseConfig } from './load.ts'
import { problemText } from './problems.ts'
import { secretOptions } from './secret-options.ts'

const optionSchemas = new Map<string, z.ZodType>([
  [
    'postgres',
    z.strictObject({
      host: z.string().min(1).default('localhost'),
      port: z.int().min(1).max(65_535).default(5432),
      database: z.string().min(1),
      sslMode: z.enum(['disable', 'require']).optional(),
      ...secretOptions,
    }),
  ],
  ['files', z.strictObject({ path: z.string().min(1), exclude: z.array(z.string()).default([]) })],
])

const head = 'version: 1\nsystem: shop\nrepository: { path: ./snapshots, passwordFile: ./pw }\n'
const process = 'participants:\n  orders: { process: true }\n'
const store = (options: string) => `${head}participants:\n  db:\n    source: postgres\n    database: shop\n${options}`

function problemsIn(text: string): readonly string[] {
  const parsed = parseConfig(text, { optionSchemas, path: '/srv/shop/stillpoint.yaml' })
  return parsed.state === 'valid' ? [] : parsed.problems.map((problem) => problemText(problem, 'stillpoint.yaml'))
}

describe('a valid file', () => {
  test('gets defaults and absolute paths', () => {
    const parsed = parseConfig(head + process, { optionSchemas, path: '/srv/shop/stillpoint.yaml' })
    expect(parsed).toEqual({
      state: 'valid',
      config: {
        path: '/srv/shop/stillpoint.yaml',
        baseDir: '/srv/shop',
        system: 'shop',
        repository: { path: '/srv/shop/snapshots', passwordFile: './pw' },
        stateDir: '/srv/shop/.stillpoint',
        server: { host: '127.0.0.1', port: 0 },
        deadlines: {},
        retries: { attempts: 5, backoffMs: 200 },
        schedule: null,
        participants: [{ kind: 'process', name: 'orders' }],
      },
    })
  })

  test('may have its repository on a server', () => {
    const repository =
      'repository: { url: "rest:https://host:8000/alice/shop/", credentialsFile: ./c, caFile: /etc/ca.pem, passwordFile: ./pw }'
    const parsed = parseConfig(`version: 1\nsystem: shop\n${repository}\n${process}`, {
      optionSchemas,
      path: '/srv/shop/stillpoint.yaml',
    })
    expect(parsed.state === 'valid' ? parsed.config.repository : parsed.problems).toEqual({
      url: 'rest:https://host:8000/alice/shop/',
      credentialsFile: '/srv/shop/c',
      caFile: '/etc/ca.pem',
      passwordFile: './pw',
    })
  })

  test('may have its repository on S3', () => {
    const repository = `repository:
  url: s3:https://s3.example.org/bucket/shop
  credentialsFile: ./aws
  s3: { region: eu-1, storageClass: STANDARD_IA, objectLock: { mode: GOVERNANCE, days: 30 } }
  passwordFile: ./pw`
    const parsed = parseConfig(`version: 1\nsystem: shop\n${repository}\n${process}`, {
      optionSchemas,
      path: '/srv/shop/stillpoint.yaml',
    })
    expect(parsed.state === 'valid' ? parsed.config.repository : parsed.problems).toEqual({
      url: 's3:https://s3.example.org/bucket/shop',
      credentialsFile: '/srv/shop/aws',
      s3: { region: 'eu-1', storageClass: 'STANDARD_IA', objectLock: { mode: 'GOVERNANCE', days: 30 } },
      passwordFile: './pw',
    })
  })

  test('sets everything', () => {
    const text = `version: 1
system: shop
repository:
  path: /backup/shop
  passwordCommand: [pass, show, shop]
stateDir: /var/lib/stillpoint
server: { host: 0.0.0.0, port: 4711 }
deadlines: { leaseMs: 5s, drainMs: 1500, captureMs: 1h30m }
retries: { attempts: 2, backoff: 1s }
schedule: { every: 2h }
participants:
  orders-db: { source: postgres, database: orders, port: 5433, writers: [orders, orders] }
  uploads: { source: files, path: ./uploads, writers: unknown }
  orders: { process: true }
`
    const parsed = parseConfig(text, { optionSchemas, path: '/srv/stillpoint.yaml' })
    if (parsed.state === 'invalid') throw new Error(parsed.problems.map((problem) => problem.what).join('\n'))
    expect(parsed.config).toMatchObject({
      repository: { path: '/backup/shop', passwordCommand: ['pass', 'show', 'shop'] },
      stateDir: '/var/lib/stillpoint',
      server: { host: '0.0.0.0', port: 4711 },
      deadlines: { leaseMs: 5_000, drainMs: 1_500, captureMs: 5_400_000 },
      retries: { attempts: 2, backoffMs: 1_000 },
      schedule: { everyMs: 7_200_000 },
      participants: [
        {
          kind: 'store',
          name: 'orders-db',
          source: 'postgres',
          options: { host: 'localhost', port: 5433, database: 'orders' },
          writers: ['orders'],
        },
        {
          kind: 'store',
          name: 'uploads',
          source: 'files',
          options: { path: './uploads', exclude: [] },
          writers: 'unknown',
        },
        { kind: 'process', name: 'orders' },
      ],
    })
  })

  test('may share options by an alias', () => {
    const text = `${head}participants:
  a: &db { source: postgres, database: shop }
  b: *db
`
    expect(problemsIn(text)).toEqual([])
  })

  test('takes nothing from the environment', () => {
    const parsed = parseConfig(store('    host: $HOME\n'), { optionSchemas, path: '/srv/stillpoint.yaml' })
    expect(parsed).toMatchObject({ config: { participants: [{ options: { host: '$HOME' } }] } })
  })
})

const cases: readonly { name: string; text: string; problems: readonly string[] }[] = [
  {
    name: 'a typing error in a key',
    text: `version: 1\nsystem: shop\nrepositry: { path: ./s, passwordFile: ./pw }\n${process}`,
    problems: [
      'missing key "repository" at stillpoint.yaml:1:1; it must be a map of keys and values',
      'unknown key "repositry" at stillpoint.yaml:3:1; did you mean "repository"?',
    ],
  },
  {
    name: 'a typing error in an option of a source',
    text: store('    prot: 5432\n'),
    problems: ['unknown key "prot" at stillpoint.yaml:8:5; did you mean "port"?'],
  },
  {
    name: 'a key that is near to none',
    text: store('    colour: blue\n'),
    problems: [
      'unknown key "colour" at stillpoint.yaml:8:5; known here: database, host, passwordCommand, passwordFile, port, source, sslMode, writers',
    ],
  },
  {
    name: 'a password in the file',
    text: store('    password: hunter2\n'),
    problems: [
      'unknown key "password" at stillpoint.yaml:8:5; passwords are read from a file or a command: use "passwordFile" or "passwordCommand"',
    ],
  },
  {
    name: 'wrong types',
    text: store('    port: "5432"\n    host: [a]\n    sslMode: requir\n'),
    problems: [
      'participants.db.port must be a number, but is text at stillpoint.yaml:8:11',
      'participants.db.host must be text, but is a list at stillpoint.yaml:9:11',
      'participants.db.sslMode must be one of disable, require at stillpoint.yaml:10:14; did you mean "require"?',
    ],
  },
  {
    name: 'numbers out of bounds',
    text: store('    port: 70000\n'),
    problems: ['participants.db.port must be at most 65535 at stillpoint.yaml:8:11'],
  },
  {
    name: 'a number with a fraction',
    text: store('    port: 1.5\n'),
    problems: ['participants.db.port must be a whole number, but is a number with a fraction at stillpoint.yaml:8:11'],
  },
  {
    name: 'a missing option',
    text: `${head}participants:\n  db:\n    source: postgres\n`,
    problems: ['missing key "database" in participants.db at stillpoint.yaml:5:3; it must be text'],
  },
  {
    name: 'an empty value',
    text: `${head}participants:\n  db:\n    source: postgres\n    database:\n`,
    problems: ['participants.db.database must be text, but is empty at stillpoint.yaml:7:14'],
  },
  {
    name: 'an unknown source',
    text: `${head}participants:\n  db: { source: postgre, database: a }\n  x: { source: oracle }\n`,
    problems: [
      'participants.db.source is not a known source at stillpoint.yaml:5:17; did you mean "postgres"?',
      'participants.x.source is not a known source at stillpoint.yaml:6:16; known: files, postgres',
    ],
  },
  {
    name: 'a participant without a source',
    text: `${head}participants:\n  db: { sorce: postgres }\n  x: { host: a }\n  y: 3\n`,
    problems: [
      'unknown key "sorce" at stillpoint.yaml:5:9; did you mean "source"?',
      'missing key "source" in participants.x at stillpoint.yaml:6:3; it must be one of files, postgres; for a process that runs the SDK: "process: true"',
      'participants.y must be a map with "source" (a store) or "process: true" at stillpoint.yaml:7:6',
    ],
  },
  {
    name: 'a process with options',
    text: `${head}participants:\n  orders: { process: yes, host: a }\n`,
    problems: [
      'participants.orders.process must be true at stillpoint.yaml:5:22',
      'unknown key "host" at stillpoint.yaml:5:27; known here: process',
    ],
  },
  {
    name: 'names',
    text: `${head}participants:\n  ../etc: { process: true }\n  ${'x'.repeat(1000)}: { process: true }\n`,
    problems: [
      'participant name: "../etc" is not a valid name. Use 1 to 64 letters, digits, ".", "_" or "-", beginning and ending with a letter or digit, without "..". at stillpoint.yaml:5:3',
      `participant name: "${'x'.repeat(40)}…" is not a valid name (1000 characters). Use 1 to 64 letters, digits, ".", "_" or "-", beginning and ending with a letter or digit, without "..". at stillpoint.yaml:6:3`,
    ],
  },
  {
    name: 'writers',
    text: `${store('    writers: [order, db, nobody]\n')}  orders: { process: true }\n  b: { source: files, path: a, writers: all }\n`,
    problems: [
      'participants.db.writers[0] names "order", which is not a declared process at stillpoint.yaml:8:15; did you mean "orders"?',
      'participants.db.writers[1] names "db", which is not a declared process at stillpoint.yaml:8:22; only a process ("process: true") can be a writer',
      'participants.db.writers[2] names "nobody", which is not a declared process at stillpoint.yaml:8:26; declare it under participants: nobody: { process: true }',
      'participants.b.writers must be a list of the processes that write this store, or "unknown" at stillpoint.yaml:10:41',
    ],
  },
  {
    name: 'no participants',
    text: `${head}participants: {}\n`,
    problems: [
      'participants must not be empty at stillpoint.yaml:4:1; declare a store ({ source: … }) or a process ({ process: true })',
    ],
  },
  {
    name: 'a repository without a password, with two, elsewhere',
    text: `version: 1\nsystem: shop\nrepository: { path: "s3:bucket" }\n${process}`,
    problems: [
      'repository needs a password: set passwordFile or passwordCommand at stillpoint.yaml:3:13',
      'repository.path must be a directory on this machine; the address of a server is given as "url" at stillpoint.yaml:3:21',
    ],
  },
  {
    name: 'durations',
    text: `${head}deadlines: { leaseMs: soon, markMs: true, drainMs: 1ms, prepareMs: 3d }\nschedule: { every: 0s }\n${process}`,
    problems: [
      'deadlines.leaseMs must be a duration such as "200ms", "8s" or "2h", or a number of milliseconds at stillpoint.yaml:4:23',
      'deadlines.markMs must be a duration such as "200ms", "8s" or "2h", or a number of milliseconds at stillpoint.yaml:4:37',
      'deadlines.drainMs must be at least 10ms at stillpoint.yaml:4:52',
      'deadlines.prepareMs must be at most 1d at stillpoint.yaml:4:68',
      'schedule.every must be at least 1s at stillpoint.yaml:5:20',
    ],
  },
  {
    name: 'another version',
    text: `version: 2\nsystem: shop\nrepository: { path: ./s, passwordFile: ./pw }\n${process}`,
    problems: ['version must be 1, the version of this format that this Stillpoint reads at stillpoint.yaml:1:10'],
  },
  {
    name: 'a system name with a path in it',
    text: `version: 1\nsystem: a/b\nrepository: { path: ./s, passwordFile: ./pw }\n${process}`,
    problems: [
      'system: "a/b" is not a valid name. Use 1 to 64 letters, digits, ".", "_" or "-", beginning and ending with a letter or digit, without "..". at stillpoint.yaml:2:9',
    ],
  },
  {
    name: 'a key twice',
    text: `${head}system: other\n${process}`,
    problems: ['a key that is there twice at stillpoint.yaml:4:1; keep one of the two'],
  },
  {
    name: 'two documents',
    text: `${head}${process}---\na: 1\n`,
    problems: ['a second document at stillpoint.yaml:6:1; take out the "---" and what follows it'],
  },
  {
    name: 'an empty file',
    text: '# nothing\n\n',
    problems: ['nothing but empty lines at stillpoint.yaml:1:1; "stillpoint init" writes a first one'],
  },
  {
    name: 'a list',
    text: '- a\n',
    problems: ['the file must be a map of keys and values, but is a list at stillpoint.yaml:1:1'],
  },
  {
    name: 'an alias inside itself',
    text: `${head}participants: &p\n  orders: *p\n`,
    problems: ['an alias inside what it stands for at stillpoint.yaml:5:11'],
  },
  {
    name: 'a tag',
    text: `${head}stateDir: !!js/function secret\n${process}`,
    problems: ['a tag that is not known at stillpoint.yaml:4:11; write the value without "!"'],
  },
]

describe('an invalid file', () => {
  test.each(cases)('$name', ({ text, problems }) => {
    expect(problemsIn(text)).toEqual(problems)
  })

  test('never quotes a value, which may be a secret in the wrong place', () => {
    const secret = 'hunter2secret'
    const places = [
      store(`    password: ${secret}\n`),
      store(`    port: ${secret}\n`),
      store(`    sslMode: ${secret}\n`),
      store(`    passwordFile: { a: ${secret} }\n`),
      store(`    host: "${secret}\n`),
      store(`    host: ${secret}: ${secret}\n`),
      store(`    host: *${secret}\n`),
      store(`    host: !${secret} a\n`),
      store(`    host: @${secret}\n`),
    ]
    for (const text of places) {
      const problems = problemsIn(text)
      expect(problems, text).not.toEqual([])
      expect(problems.join('\n')).not.toContain(secret)
    }
  })

  test('an alias bomb ends at the bound on values', () => {
    const level = (index: number) => `x${index}: &x${index} [${`*x${index - 1}, `.repeat(10)}]\n`
    const bomb = `x0: &x0 [a]\n${Array.from({ length: 30 }, (_, index) => level(index + 1)).join('')}`
    // Without the bound there would be 10^30 of them.
    expect(problemsIn(bomb)[0]).toMatch(/^more than 20000 values at stillpoint.yaml:\d+:\d+; aliases count/)
  })

  test('a text of brackets is too deep, not a crash', () => {
    expect(problemsIn('['.repeat(100_000))[0]).toMatch(/^values nested too deeply at stillpoint.yaml:1:\d+/)
    expect(problemsIn(`a: ${'['.repeat(60)}${']'.repeat(60)}\n`)[0]).toMatch(/^values nested too deeply/)
  })

  test('keys that are names of object internals are keys like any other', () => {
    expect(problemsIn(`${head}${process}constructor: 1\n`)[0]).toMatch(/^unknown key "constructor"/)
    expect(problemsIn(`${head}${process}__proto__: { system: x }\n`)).toEqual([
      'a key that is not a plain name at stillpoint.yaml:6:1',
    ])
    expect(problemsIn(`${head}participants:\n  toString: { sorce: a }\n`)[0]).toMatch(/^unknown key "sorce"/)
    expect(problemsIn(`${head}participants:\n  a: { source: constructor }\n`)[0]).toMatch(/is not a known source/)
  })
})

describe('loading a file', () => {
  async function failureOf(content: Uint8Array | string | undefined) {
    const dir = await mkdtemp(join(tmpdir(), 'stillpoint-config-'))
    onTestFinished(() => rm(dir, { recursive: true }))
    const path = join(dir, 'stillpoint.yaml')
    if (content !== undefined) await writeFile(path, content)
    const failure = await loadConfig(path, { optionSchemas }).then(
      () => undefined,
      (error: unknown) => error,
    )
    if (!isFailure(failure)) throw new Error(`not a Failure: ${String(failure)}`)
    return { code: failure.code, message: failure.message.replaceAll(`${dir}/`, ''), hint: failure.hint }
  }

  test('that is absent', async () => {
    expect(await failureOf(undefined)).toMatchObject({ code: 'config_absent', message: 'there is no stillpoint.yaml' })
  })

  test('that is not UTF-8 names the line', async () => {
    const content = Buffer.concat([Buffer.from('version: 1\nsystem: '), Buffer.from([0xe9, 0x0a])])
    expect(await failureOf(content)).toMatchObject({
      code: 'config_not_text',
      message: 'stillpoint.yaml:2 is not UTF-8 text',
    })
  })

  test('that is huge is not read to its end', async () => {
    expect(await failureOf(Buffer.alloc(configBytesMax + 1, '#'))).toMatchObject({
      code: 'config_too_large',
      message: 'stillpoint.yaml is larger than 1024 KiB',
    })
  })

  test('that is a directory', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'stillpoint-config-'))
    onTestFinished(() => rm(dir, { recursive: true }))
    await mkdir(join(dir, 'stillpoint.yaml'))
    await expect(loadConfig(join(dir, 'stillpoint.yaml'), { optionSchemas })).rejects.toMatchObject({
      code: 'config_unreadable',
    })
  })

  test('with several errors reports all of them', async () => {
    const failure = await failureOf('version: 1\nsystem: a b\nrepositry: {}\n')
    expect(failure.code).toBe('config_invalid')
    expect(failure.message.split('\n')).toEqual([
      'stillpoint.yaml has 4 errors:',
      '  missing key "repository" at stillpoint.yaml:1:1; it must be a map of keys and values',
      '  missing key "participants" at stillpoint.yaml:1:1; it must be a map of keys and values',
      '  system: "a b" is not a valid name. Use 1 to 64 letters, digits, ".", "_" or "-", beginning and ending with a letter or digit, without "..". at stillpoint.yaml:2:9',
      '  unknown key "repositry" at stillpoint.yaml:3:1; did you mean "repository"?',
    ])
  })

  test('that has a byte order mark', async () => {
    const failure = await failureOf('\uFEFFversion: 1\nsystem: shop\nfoo: 1\n')
    expect(failure.message).toContain('unknown key "foo" at stillpoint.yaml:3:1')
  })
})

describe('the place of a repository', () => {
  const problemsWith = (repository: string) =>
    problemsIn(`version: 1\nsystem: shop\nrepository: { ${repository}, passwordFile: ./pw }\n${process}`)

  test.each([
    ['tags: x', 'unknown key "tags"'],
    ['caFile: ./ca', 'repository needs a place: set path, or url'],
    ['path: ./p, url: "https://host/a/"', 'repository must have one of path and url, not both'],
    ['path: ./p, credentialsFile: ./c', 'repository.credentialsFile has a meaning only with url'],
    ['url: "ftp://host/a/"', 'repository.url is refused: the URL of the repository begins with ftp:'],
    ['url: "rest:/srv/a"', 'repository.url is refused: the URL of the repository is not a URL'],
    ['path: "https://host/"', 'is given as "url"'],
    ['url: "s3:host"', 'repository.url is refused: the location of the repository on S3 at host names no bucket'],
    ['url: "https://host/a/", s3: { region: a }', 'repository.s3 has a meaning only with a url on S3'],
    ['url: "s3:host/b", insecureHttp: true', 'repository.insecureHttp has no meaning on S3'],
    ['url: "s3:host/b", s3: { storageClass: GLACIER }', 'repository.s3.storageClass'],
    ['url: "s3:host/b", s3: { objectLock: { mode: GOVERNANCE } }', 'repository.s3.objectLock'],
  ])('%s is refused', (repository, problem) => {
    expect(problemsWith(repository).join('\n')).toContain(problem)
  })

  test('a password in a URL is refused and not repeated', () => {
    const text = problemsWith('url: "https://alice:s3cret@host/a/"').join('\n')
    expect(text).toContain('has a user or a password in it')
    expect(text).not.toContain('s3cret')
  })
})
