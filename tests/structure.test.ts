/** The rules of the house, held by a test: who may import whom, what the core may not do, how long a file may be. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const linesMax = 500

const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.ts'], { cwd: root })
  .toString()
  .split('\n')
  .filter((path) => path !== '')
  .map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }))

const isTest = (path: string): boolean =>
  /\.test\.ts$|\/(testing|testdata|torture|examples)\/|workbench\.ts$|conformance[a-z-]*\.ts$|testbed\.ts$/.test(path)
const production = files.filter(({ path }) => path.startsWith('packages/') && !isTest(path))

function importsOf(text: string): readonly string[] {
  const pattern = /^(?:import|export)\b[^'"=()]*?\bfrom '([^']+)'$|^import '([^']+)'$|\bimport\('([^']+)'\)/gm
  return [...text.matchAll(pattern)].map((match) => match[1] ?? match[2] ?? match[3] ?? '')
}

/** Folders inside `stillpoint`, lowest first: each may import its own and those below, never beside or above. */
const ranks: Readonly<Record<string, number>> = {
  'system-env.ts': 0,
  'program-version.ts': 0,
  config: 0,
  sources: 1,
  catalog: 1,
  vault: 1,
  agent: 2,
  coordinator: 3,
  server: 4,
  demo: 5,
  cli: 6,
  'main.ts': 7,
  'index.ts': 7,
}

const allowedPackages: Readonly<Record<string, RegExp>> = {
  core: /^$/,
  repository:
    /^(node:|@stillpoint\/core\/kernel$|@noble\/|sodium-native$|@napi-rs\/xattr$|@koromix\/koffi|@aws-sdk\/client-s3$)/,
  sdk: /^(node:|@stillpoint\/core(\/kernel)?$|ws$)/,
  stillpoint:
    /^(node:|@stillpoint\/(core(\/kernel)?|repository(\/(system-env|selection))?|sdk)$|(?!@stillpoint)[a-z@])/,
  testbed: /^(node:|@stillpoint\/core\/kernel$)/,
  // Private, and may import anything; nothing imports it.
  simulator: /^/,
}

function brokenDirections(path: string, text: string): readonly string[] {
  const [, name = '', , ...inside] = path.split('/')
  const broken: string[] = []
  for (const imported of importsOf(text)) {
    if (!imported.startsWith('.')) {
      if (allowedPackages[name]?.test(imported) !== true) broken.push(`${path} imports ${imported}`)
      continue
    }
    const target = normalize(join(dirname(path), imported))
    if (name !== 'simulator' && !target.startsWith(`packages/${name}/`)) broken.push(`${path} reaches into ${target}`)
    if (name === 'core' && inside[0] === 'kernel' && !target.startsWith('packages/core/src/kernel')) {
      broken.push(`${path} imports ${target}: the kernel knows nobody`)
    }
    if (name !== 'stillpoint') continue
    const from = inside[0] ?? ''
    const to = relative('packages/stillpoint/src', target).split('/')[0] ?? ''
    if (from === to) continue
    const [fromRank, toRank] = [ranks[from], ranks[to]]
    if (fromRank === undefined || toRank === undefined) broken.push(`${path}: ${from} or ${to} has no rank`)
    else if (toRank >= fromRank) broken.push(`${path} imports ${target}: ${from} may not know ${to}`)
  }
  return broken
}

describe('import directions', () => {
  test('every file imports only what its place allows', () => {
    expect(production.flatMap(({ path, text }) => brokenDirections(path, text))).toEqual([])
  })

  test('a wrong direction is found', () => {
    const found = (path: string, imported: string) => brokenDirections(path, `import { x } from '${imported}'`).length
    expect(found('packages/core/src/cut/plan.ts', 'node:fs')).toBe(1)
    expect(found('packages/core/src/kernel/ids.ts', '../cut/plan.ts')).toBe(1)
    expect(found('packages/repository/src/index.ts', '@stillpoint/core')).toBe(1)
    expect(found('packages/stillpoint/src/sources/files/files.ts', '../../agent/agent.ts')).toBe(1)
    expect(found('packages/stillpoint/src/sources/files/files.ts', '../../catalog/catalog.ts')).toBe(1)
    expect(found('packages/stillpoint/src/agent/agent.ts', '../server/routes.ts')).toBe(1)
    expect(found('packages/stillpoint/src/cli/take.ts', '../server/client.ts')).toBe(0)
  })
})

const coreBans: readonly (readonly [RegExp, string])[] = [
  [/\bDate\b|\bperformance\./, 'the system clock'],
  [/\bMath\.random\b|\bcrypto\b/, 'randomness'],
  [/\bset(Timeout|Interval|Immediate)\b|\bqueueMicrotask\b/, 'timers'],
  [/\basync\b|\bawait\b|\bPromise\b/, 'async'],
  [/\bprocess\.(env|argv|exit|on|std)|\bconsole\./, 'the process'],
]

/** Code without comments and strings: a word in prose breaks no rule. */
function codeOf(text: string): string {
  return text
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/\/\/.*$/gm, '')
    .replace(/'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`/g, "''")
}

describe('bans', () => {
  test('the core has no clock, no randomness, no timers and nothing asynchronous', () => {
    const broken = production
      .filter(({ path }) => path.startsWith('packages/core/'))
      .flatMap(({ path, text }) =>
        coreBans.filter(([pattern]) => pattern.test(codeOf(text))).map(([, what]) => `${path}: ${what}`),
      )
    expect(broken).toEqual([])
  })

  test('time and chance are injected everywhere but where the system gives them', () => {
    // The last two are programs of their own: they have no one to inject anything.
    // The simulator measures how long its runs take; its worlds have clocks of their own.
    const sources =
      /simulator\/src\/(world\/(seeds|workers)|scale\/connections)\.ts$|system-env\.ts$|sdk\/src\/clock\.ts$|packages\/testbed\/|watchdog\.ts$|child-hold\.ts$/
    const broken = production
      .filter(({ path }) => !sources.test(path))
      .filter(({ text }) => /\bDate\.now\(|\bnew Date\(\)|\bMath\.random\(|\bperformance\.now\(/.test(codeOf(text)))
      .map(({ path }) => path)
    expect(broken).toEqual([])
  })

  test('no `any`, and no way around the types', () => {
    const broken = files
      .filter(({ path }) => path !== 'tests/structure.test.ts')
      .filter(({ text }) => /:\s*any\b|\bas any\b|<any>|@ts-ignore|@ts-nocheck|@ts-expect-error/.test(codeOf(text)))
      .map(({ path }) => path)
    expect(broken).toEqual([])
  })

  test(`no file is longer than ${linesMax} lines`, () => {
    const long = files.filter(({ text }) => text.split('\n').length > linesMax + 1).map(({ path }) => path)
    expect(long).toEqual([])
  })

  test('a ban is found', () => {
    const isBanned = (code: string) => coreBans.some(([pattern]) => pattern.test(codeOf(code)))
    expect(isBanned('const now = Date.now()')).toBe(true)
    expect(isBanned('await x')).toBe(true)
    expect(isBanned('// Date and await in a comment')).toBe(false)
  })
})

describe('invariants', () => {
  test('each of C1–C10 is cited in code and covered by a named test', () => {
    const core = files.filter(({ path }) => path.startsWith('packages/core/src/cut/'))
    for (let number = 1; number <= 10; number += 1) {
      const cited = new RegExp(`\\bC${number}\\b`)
      const inCode = core.some(({ path, text }) => !isTest(path) && cited.test(text))
      const inTest = core.some(({ path, text }) => {
        return (
          path.endsWith('.test.ts') &&
          [...text.matchAll(/test\(\s*['"`]([^\n]*)/g)].some(([, name]) => cited.test(name ?? ''))
        )
      })
      expect({ number, inCode, inTest }).toEqual({ number, inCode: true, inTest: true })
    }
  })
})
