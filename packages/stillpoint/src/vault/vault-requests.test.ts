/** Requests as no client should send them, over raw sockets; slow and cut connections; many at once. */
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { smallDisk } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { listAll } from '../../../repository/src/blob/blob-store.ts'
import { objectPath, parseTarget, repositoryPath } from './request-target.ts'
import { addToken, addUser, startVaultBench, userPassword, type VaultBench } from './workbench.ts'

const silenceMsMax = 1_000
let bench: VaultBench
let token = ''
beforeAll(async () => {
  bench = await startVaultBench({ silenceMsMax, metrics: { host: '127.0.0.1', port: 0 } })
  const usersFile = join(bench.root, '.users')
  token = await addToken(usersFile, 'alice', false)
  await addUser(usersFile, { user: 'small', quotaBytes: 10_000 })
  await bench.restart()
  await (await bench.store('/alice/')).prepare()
})
afterAll(() => bench[Symbol.asyncDispose]())

const nameOf = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest('hex')
const basic = (user: string, secret = userPassword) => `Basic ${Buffer.from(`${user}:${secret}`).toString('base64')}`

interface Answer {
  readonly status: number
  readonly text: string
}

/** Sends bytes as they are, and answers what came back when the server closes or the answer is whole. */
function raw(head: string, body: string | Uint8Array = '', authorization = `Bearer ${token}`): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const socket = open(() => {
      const status = Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? 0)
      resolve({ status, text })
    })
    let text = ''
    socket.on('data', (data) => {
      text += data.toString('latin1')
    })
    socket.on('error', (error) => (text === '' ? reject(error) : undefined))
    socket.write(`${head}\r\nhost: x\r\nconnection: close\r\nauthorization: ${authorization}\r\n\r\n`)
    socket.write(body)
  })
}

function open(onClose: () => void): Socket {
  const socket = connect(Number(new URL(bench.vault().url).port), '127.0.0.1')
  socket.once('close', onClose)
  return socket
}

async function everything(): Promise<readonly string[]> {
  const entries = await readdir(bench.directory, { recursive: true })
  return entries.filter((name) => !/credentials-\d+$/.test(name)).sort()
}

const id = nameOf('x')

describe('URLs that lead elsewhere name nothing, and change nothing', () => {
  const urls = [
    '/alice/../bob/config',
    '/alice/%2e%2e/bob/config',
    '/alice/..%2fbob/config',
    '/alice//config',
    '/alice/data/../../.users',
    '/alice/.uploads/1',
    '/.users',
    '/.vault.lock',
    '/alice/data/%00',
    `/alice/data/${id}/`,
    `/alice/data/${id}%00`,
    `/alice/data/${id.toUpperCase()}`,
    `/alice/data/${id.slice(1)}`,
    `/alice/data/${id.slice(0, 2)}/${id}`,
    `/alice/data\\${id}`,
    '/alice/data/..',
    '/alice/config/',
    '/alice/config/x',
    '/alice/data/index/x',
    '/alice/a/b/c/d/e/config',
    '/alice/-x/config',
    '/',
    '//',
    '/alice/\u00e9/config',
    `/alice/${'x'.repeat(2_000)}/config`,
  ]

  test.each(urls)('%s', async (url) => {
    const before = await everything()
    for (const method of ['GET', 'HEAD', 'POST', 'DELETE']) {
      const { status } = await raw(`${method} ${url} HTTP/1.1\r\ncontent-length: 1`, 'x')
      expect({ method, is: status >= 400 && status < 500 }).toEqual({ method, is: true })
    }
    expect(await everything()).toEqual(before)
  })

  test('every target that is understood lies in the directory of its user', () => {
    const parts = [
      'alice',
      'data',
      'config',
      'locks',
      'repo',
      'a.b',
      '..',
      '.',
      '',
      '%2e',
      id,
      'DATA',
      '\\',
      'x'.repeat(65),
    ]
    let understood = 0
    for (const a of parts) {
      for (const b of parts) {
        for (const c of parts) {
          for (const d of ['', '/', `/${id}`, '/data/', '/..', '/config']) {
            const target = parseTarget(`/${a}/${b}/${c}${d}`)
            if (target === undefined) continue
            understood += 1
            const path =
              target.kind === 'object'
                ? objectPath('/v', target.place, target.object)
                : repositoryPath('/v', target.place)
            expect(path).toMatch(/^\/v\/[a-z0-9][a-z0-9._-]*(\/[A-Za-z0-9][A-Za-z0-9._-]*)*$/)
            expect(path).not.toContain('..')
          }
        }
      }
    }
    expect(understood).toBeGreaterThan(50)
  })

  test('a symbolic link that somebody put there is not followed to a file', async () => {
    await writeFile(join(bench.directory, 'outside'), 'secret')
    await mkdir(join(bench.root, 'alice', 'keys'), { recursive: true })
    await symlink(join(bench.directory, 'outside'), join(bench.root, 'alice', 'keys', id))
    expect((await raw(`GET /alice/keys/${id} HTTP/1.1`)).status).toBe(404)
    expect((await raw(`HEAD /alice/keys/${id} HTTP/1.1`)).status).toBe(404)
  })
})

describe('uploads that are wrong leave nothing', () => {
  const uploads = () => readdir(join(bench.root, 'alice', '.uploads'))
  const stored = (name: string) => readdir(join(bench.root, 'alice', 'data', name.slice(0, 2))).catch(() => [])

  test('content that is not what its name says', async () => {
    const { status, text } = await raw(`POST /alice/data/${id} HTTP/1.1\r\ncontent-length: 1`, 'y')
    expect(status).toBe(400)
    expect(text).toContain('upload_damaged')
    expect([await uploads(), await stored(id)]).toEqual([[], []])
  })

  test('more than an object may have: announced, and not announced', async () => {
    const announced = await raw(`POST /alice/locks/${id} HTTP/1.1\r\ncontent-length: 2000000`, Buffer.alloc(2_000_000))
    expect(announced.status).toBe(413)
    const chunk = `${(1_000_000).toString(16)}\r\n${'x'.repeat(1_000_000)}\r\n`
    const chunked = await raw(
      `POST /alice/locks/${id} HTTP/1.1\r\ntransfer-encoding: chunked`,
      `${chunk}${chunk}0\r\n\r\n`,
    )
    expect(chunked.status).toBe(413)
    expect(await uploads()).toEqual([])
  })

  test('an upload in pieces of unknown length is taken', async () => {
    const name = nameOf('abcdef')
    const { status } = await raw(
      `POST /alice/data/${name} HTTP/1.1\r\ntransfer-encoding: chunked`,
      '3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n',
    )
    expect(status).toBe(200)
    expect(await readFile(join(bench.root, 'alice', 'data', name.slice(0, 2), name), 'utf8')).toBe('abcdef')
  })

  test('an upload that is cut, or is silent, is nothing', async () => {
    const name = nameOf('a'.repeat(1_000))
    for (const isCut of [true, false]) {
      await new Promise<void>((resolve) => {
        const socket = open(resolve)
        socket.on('error', () => {}) // followed by close
        socket.write(
          `POST /alice/data/${name} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-length: 1000\r\n\r\n${'a'.repeat(999)}`,
        )
        if (isCut) setTimeout(() => socket.destroy(), 50)
      })
      await waitUntil(async () => (await uploads()).length === 0)
      expect(await stored(name)).toEqual([])
    }
  })

  test('a slow upload that goes on is taken', async () => {
    const text = 'slow '.repeat(6)
    const name = nameOf(text)
    await new Promise<void>((resolve, reject) => {
      const socket = open(resolve)
      socket.on('error', reject)
      socket.resume()
      socket.write(
        `POST /alice/data/${name} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer ${token}\r\ncontent-length: ${text.length}\r\n\r\n`,
      )
      const send = (at: number) => {
        if (at >= text.length) return
        socket.write(text.slice(at, at + 5))
        setTimeout(() => send(at + 5), silenceMsMax / 5)
      }
      send(0)
    })
    expect(await stored(name)).toEqual([name])
  })

  test('the same again is fine, other content of a config is refused', async () => {
    const again = () => raw(`POST /alice/data/${nameOf('again')} HTTP/1.1\r\ncontent-length: 5`, 'again')
    expect((await again()).text).toContain('stillpoint-outcome: created')
    expect((await again()).text).toContain('stillpoint-outcome: exists')
    expect((await raw('POST /alice/config HTTP/1.1\r\ncontent-length: 3', 'one')).status).toBe(200)
    expect((await raw('POST /alice/config HTTP/1.1\r\ncontent-length: 3', 'one')).status).toBe(200)
    const other = await raw('POST /alice/config HTTP/1.1\r\ncontent-length: 3', 'two')
    expect({ status: other.status, code: other.text.includes('object_exists') }).toEqual({ status: 403, code: true })
    expect(await readFile(join(bench.root, 'alice', 'config'), 'utf8')).toBe('one')
  })

  test('twenty uploads of one object at once are one object', async () => {
    const body = 'at once'.repeat(10_000)
    const send = () => raw(`POST /alice/data/${nameOf(body)} HTTP/1.1\r\ncontent-length: ${body.length}`, body)
    const answers = await Promise.all(Array.from({ length: 20 }, send))
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
    expect(answers.filter(({ text }) => text.includes('stillpoint-outcome: created'))).toHaveLength(1)
    expect(await uploads()).toEqual([])
  })

  test('a repository that nobody made takes nothing', async () => {
    const { status, text } = await raw(`POST /alice/nowhere/data/${id} HTTP/1.1\r\ncontent-length: 1`, 'x')
    expect({ status, code: text.includes('repository_absent') }).toEqual({ status: 404, code: true })
    expect((await raw('GET /alice/nowhere/data/ HTTP/1.1')).status).toBe(404)
  })
})

describe('quotas', () => {
  test('concurrent uploads do not pass a quota together, a refused one gives its room back, and so does a delete', async () => {
    const store = await bench.store('/small/')
    await store.prepare()
    const bodies = Array.from({ length: 8 }, (_, at) => Buffer.alloc(3_000, at + 1))
    const outcomes = await Promise.allSettled(
      bodies.map((bytes) => store.put({ kind: 'pack', name: nameOf(bytes) }, bytes)),
    )
    const refused = outcomes.filter(({ status }) => status === 'rejected')
    expect(refused.length).toBeGreaterThanOrEqual(5)
    for (const each of refused)
      expect(each).toMatchObject({
        reason: { code: 'no_space', message: expect.stringContaining('The quota of small is used up') },
      })
    const stored = await listAll(store, 'pack')
    expect(stored).toHaveLength(8 - refused.length)
    // A damaged upload takes room while it runs, and none after it.
    const password = basic('small')
    expect(
      (await raw(`POST /small/data/${id} HTTP/1.1\r\ncontent-length: 900`, 'y'.repeat(900), password)).status,
    ).toBe(400)
    for (const { name } of stored) await store.delete({ kind: 'pack', name })
    const again = Buffer.alloc(9_000, 99)
    expect(await store.put({ kind: 'pack', name: nameOf(again) }, again)).toBe('created')
    // What a prune needs goes beyond it.
    const lock = Buffer.alloc(2_000, 7)
    expect(await store.put({ kind: 'lock', name: nameOf(lock) }, lock)).toBe('created')
    // The sum is counted from the disk by a new life.
    await bench.restart()
    const more = Buffer.alloc(2_000, 55)
    await expect((await bench.store('/small/')).put({ kind: 'pack', name: nameOf(more) }, more)).rejects.toMatchObject({
      code: 'no_space',
    })
  })

  test('a disk that is nearly full takes nothing, and says so', async () => {
    await bench.restart({ freeBytesMin: 2 ** 52 })
    const { status, text } = await raw(`POST /alice/data/${id} HTTP/1.1\r\ncontent-length: 1`, 'x')
    expect(status).toBe(507)
    expect(text).toMatch(/^HTTP\/1\.1 507 The disk of the vault is nearly full/)
    await bench.restart()
  })
})

describe('a disk that fills up in the middle', () => {
  test('is answered 507, leaves nothing, and what was there stays [needs root]', async (context) => {
    const disk = await smallDisk(4 << 20)
    if (disk === undefined) return context.skip()
    const diskRoot = join(disk.path, 'vault')
    try {
      await using full = await startVaultBench({ root: diskRoot, usersFile: join(bench.root, '.users') })
      const store = await full.store('/alice/')
      await store.prepare()
      const kept = Buffer.alloc(1_000_000, 1)
      await store.put({ kind: 'pack', name: nameOf(kept) }, kept)
      const large = Buffer.alloc(8_000_000, 2)
      const failure = await store
        .put({ kind: 'pack', name: nameOf(large) }, large)
        .then(String, (error: unknown) => error)
      expect(failure).toMatchObject({ code: 'no_space', retry: 'later' })
      expect(await readdir(join(diskRoot, 'alice', '.uploads'))).toEqual([])
      expect(await listAll(store, 'pack')).toEqual([{ name: nameOf(kept), bytes: kept.length }])
      expect(await store.get({ kind: 'pack', name: nameOf(kept) })).toEqual(kept)
    } finally {
      await disk.remove()
    }
  })
})

describe('the rest', () => {
  test.each([
    ['no credentials', ''],
    ['no scheme', 'alice'],
    ['base64 of nothing', 'Basic ===='],
    ['no colon', `Basic ${Buffer.from('alice').toString('base64')}`],
    ['an unknown token', `Bearer spv_${'0'.repeat(64)}`],
  ])('%s: 401, and asks for them', async (_, authorization) => {
    const { status, text } = await raw('GET /alice/config HTTP/1.1', '', authorization)
    expect(status).toBe(401)
    expect(text.toLowerCase()).toContain('www-authenticate: basic realm="stillpoint vault"')
  })

  test('methods and requests that mean nothing', async () => {
    expect((await raw('PUT /alice/config HTTP/1.1\r\ncontent-length: 0')).status).toBeGreaterThanOrEqual(400)
    expect((await raw('DELETE /alice/ HTTP/1.1')).status).toBe(405)
    expect((await raw('POST /alice/ HTTP/1.1\r\ncontent-length: 0')).status).toBe(400)
    expect((await raw('POST /alice/data/ HTTP/1.1\r\ncontent-length: 0')).status).toBe(405)
    expect((await raw('NONSENSE')).status).toBe(400)
  })

  test.each([
    ['bytes=0-1', 206, 'on'],
    ['bytes=-1', 206, 'e'],
    ['bytes=1-', 206, 'ne'],
    ['bytes=0-99', 206, 'one'],
    ['bytes=3-', 416, ''],
    ['bytes=2-1', 200, 'one'],
    ['bytes=0-0,2-2', 200, 'one'],
    ['lines=1-2', 200, 'one'],
  ])('range %s: %s', async (range, status, body) => {
    const answer = await raw(`GET /alice/config HTTP/1.1\r\nrange: ${range}`)
    expect(answer.status).toBe(status)
    if (status < 300) expect(answer.text.split('\r\n\r\n')[1]).toBe(body)
  })

  test('lists of versions 1 and 2', async () => {
    const one = await raw('GET /alice/index/ HTTP/1.1')
    expect(one.text).toContain('content-type: application/vnd.x.restic.rest.v1\r\n')
    expect(one.text).toContain('\r\n[]')
    const two = await raw('GET /alice/data/ HTTP/1.1\r\naccept: application/vnd.x.restic.rest.v2')
    expect(two.text).toContain('content-type: application/vnd.x.restic.rest.v2\r\n')
    expect(two.text).toContain(`{"name":"${nameOf('again')}","size":5}`)
  })

  test('metrics count, on their own listener only', async () => {
    const text = await (await fetch(bench.vault().metricsUrl ?? '')).text()
    expect(text).toMatch(/stillpoint_vault_requests_total\{method="GET",status="200"\} \d+/)
    expect(text).toMatch(/stillpoint_vault_refused_logins_total \d+/)
    expect(text).toContain('stillpoint_vault_uploads_running 0\n')
    expect((await raw('GET /metrics HTTP/1.1')).status).toBe(404)
  })

  test('no password and no token is in the log', () => {
    const log = JSON.stringify(bench.log)
    expect(log).toContain('was refused')
    expect(log).not.toContain(userPassword)
    expect(log).not.toContain(token)
  })
})

async function waitUntil(isSo: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + 5_000
  while (!(await isSo())) {
    if (performance.now() > endMs) throw new Error('it did not come to it')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
