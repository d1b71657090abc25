/** Our client against our server, over real sockets: the conformance suite, TLS, credentials, silence, cuts. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdir, writeFile } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { describeBlobStore, listAll, openRestStore, parseRestUrl, retryingStore } from '@stillpoint/repository'
import { freePort } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { systemClock, systemRandom } from '../system-env.ts'
import { addToken, startVaultBench, type VaultBench } from './workbench.ts'

let bench: VaultBench
let repositories = 0
beforeAll(async () => {
  bench = await startVaultBench()
})
afterAll(() => bench[Symbol.asyncDispose]())

const pack = (bytes: Uint8Array) => ({ kind: 'pack', name: createHash('sha256').update(bytes).digest('hex') }) as const

describe('a REST store on the vault conforms', () => {
  describeBlobStore({ test }, async () => {
    repositories += 1
    const path = `/alice/conformance-${repositories}/`
    return { store: await bench.store(path), reopen: () => bench.store(path), dispose: async () => {} }
  })
})

describe('with retries around it, it conforms too', () => {
  describeBlobStore({ test }, async () => {
    repositories += 1
    const path = `/alice/conformance-${repositories}/`
    const open = async () => retryingStore(await bench.store(path), { clock: systemClock, random: systemRandom })
    return { store: await open(), reopen: open, dispose: async () => {} }
  })
})

describe('credentials', () => {
  test('a wrong password, another user and no credentials are refused, in the words of the server', async () => {
    const wrong = await bench.store('/alice/', { credentialsFile: await bench.credentials('alice', 'wrong') })
    await expect(listAll(wrong, 'pack')).rejects.toMatchObject({
      code: 'storage_denied',
      message: expect.stringContaining('the user or the password is wrong'),
    })
    const unknown = await bench.store('/alice/', { credentialsFile: await bench.credentials('mallory') })
    await expect(listAll(unknown, 'pack')).rejects.toMatchObject({
      code: 'storage_denied',
      message: expect.stringContaining('the user or the password is wrong'),
    })
    const other = await bench.store('/alice/', { credentialsFile: await bench.credentials('bob') })
    await expect(listAll(other, 'pack')).rejects.toMatchObject({ code: 'storage_denied' })
    const nobody = await openRestStore({ url: bench.url('/alice/') })
    await expect(listAll(nobody, 'pack')).rejects.toMatchObject({ code: 'storage_denied' })
  })

  test('a token lets in, as a bearer and as a password of its user, and of nobody else', async () => {
    const token = await addToken(join(bench.root, '.users'), 'bob', false)
    await new Promise((resolve) => setTimeout(resolve, 1_100)) // the file is looked at every second
    const bearer = join(bench.directory, 'bearer')
    await writeFile(bearer, `${token}\n`, { mode: 0o600 })
    const store = await bench.store('/bob/', { credentialsFile: bearer })
    await store.prepare()
    expect(await listAll(store, 'pack')).toEqual([])
    const basic = await bench.store('/bob/', { credentialsFile: await bench.credentials('bob', token) })
    expect(await listAll(basic, 'pack')).toEqual([])
    const stolen = await bench.store('/alice/', { credentialsFile: await bench.credentials('alice', token) })
    await expect(listAll(stolen, 'pack')).rejects.toMatchObject({ code: 'storage_denied' })
  })

  test('a URL with a password is refused, and not quoted', () => {
    for (const url of ['https://alice:s3cret@host/a/', 'rest:https://alice:s3cret@host/', 'https://alice@host/']) {
      let refused: unknown
      try {
        parseRestUrl(url)
      } catch (error) {
        refused = error
      }
      expect(refused).toMatchObject({ code: 'options_invalid' })
      expect(JSON.stringify(refused instanceof Failure ? [refused.message, refused.hint] : '')).not.toContain('s3cret')
    }
  })

  test('a password is not sent to another machine in the clear', async () => {
    const credentialsFile = await bench.credentials('alice')
    await expect(openRestStore({ url: 'http://192.0.2.1/alice/', credentialsFile })).rejects.toMatchObject({
      code: 'options_invalid',
    })
    await expect(
      openRestStore({ url: 'http://192.0.2.1/alice/', credentialsFile, insecureHttp: true }),
    ).resolves.toBeDefined()
  })

  test.each([
    ['empty', '\n', 0o600, 'secret_empty'],
    ['two lines', 'alice:pw\nx: y\n', 0o600, 'secret_not_text'],
    ['not UTF-8', Buffer.from([0xff, 0x3a]), 0o600, 'secret_not_text'],
    ['a token with spaces', 'a token', 0o600, 'secret_not_text'],
    ['too large', 'x'.repeat(20_000), 0o600, 'secret_too_large'],
    ['written by everybody', 'alice:pw', 0o666, 'secret_file_too_open'],
  ])('a credentials file that is %s is refused', async (name, content, mode, code) => {
    const path = join(bench.directory, `bad-${name.replaceAll(' ', '-')}`)
    await writeFile(path, content)
    const { chmod } = await import('node:fs/promises')
    await chmod(path, mode)
    await expect(openRestStore({ url: 'https://host/', credentialsFile: path })).rejects.toMatchObject({ code })
  })
})

describe('TLS', () => {
  test('is trusted with its CA file, and not without', async () => {
    const directory = bench.directory
    const [keyFile, certFile] = [join(directory, 'key.pem'), join(directory, 'cert.pem')]
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
    execFileSync('openssl', ['req', '-x509', ...key, '-keyout', keyFile, '-out', certFile, '-days', '1', ...subject], {
      stdio: 'ignore',
    })
    await using tls = await startVaultBench({ tls: { certFile, keyFile } })
    expect(tls.vault().url).toMatch(/^https:/)
    const store = await tls.store('/alice/', { caFile: certFile })
    await store.prepare()
    expect(await store.put(pack(Buffer.from('a')), Buffer.from('a'))).toBe('created')
    const doubting = await tls.store('/alice/')
    await expect(listAll(doubting, 'pack')).rejects.toMatchObject({
      code: 'storage_failed',
      retry: 'never',
      message: expect.stringContaining('certificate is not trusted'),
    })
    expect((await tls.restic('/alice/r/', ['init'], { cacert: certFile })).code).toBe(0)
    const doubted = await tls.restic('/alice/r/', ['snapshots'], { until: /certificate signed by unknown authority/ })
    expect(doubted.stderr).toContain('certificate signed by unknown authority')
    expect(doubted.code).not.toBe(0)
  })
})

describe('a server that does not do as it should', () => {
  async function scripted(onRequest: (socket: Socket, text: string) => void): Promise<string> {
    const sockets = new Set<Socket>()
    const server: Server = createServer((socket) => {
      sockets.add(socket)
      socket.on('error', () => {}) // the client goes away in the middle: the point of some tests
      socket.on('data', (data) => onRequest(socket, data.toString('latin1')))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy()
      server.close()
    })
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('no port')
    return `http://127.0.0.1:${address.port}/`
  }
  const answer = (status: string, body: string, headers = '') =>
    `HTTP/1.1 ${status}\r\n${headers}content-length: ${body.length}\r\n\r\n${body}`
  const object = pack(Buffer.from('x'))

  test('silence ends', async () => {
    const url = await scripted(() => {})
    const store = await openRestStore({ url, silenceMsMax: 100 })
    await expect(store.get(object)).rejects.toMatchObject({ code: 'storage_failed', retry: 'later' })
  })

  test('silence in the middle of an answer ends', async () => {
    const url = await scripted((socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf'))
    const store = await openRestStore({ url, silenceMsMax: 100 })
    await expect(store.get(object)).rejects.toMatchObject({ code: 'storage_failed', retry: 'later' })
  })

  test('an answer that is cut off is not taken for whole', async () => {
    for (const head of ['content-length: 100\r\n\r\nhalf', 'transfer-encoding: chunked\r\n\r\n4\r\n[{"n']) {
      const url = await scripted((socket) => socket.end(`HTTP/1.1 200 OK\r\n${head}`))
      const store = await openRestStore({ url })
      await expect(store.get(object)).rejects.toMatchObject({ code: 'storage_failed', retry: 'later' })
      await expect(listAll(store, 'pack')).rejects.toMatchObject({ code: 'storage_failed', retry: 'later' })
    }
  })

  test('ranges that are ignored, short, or others than asked for', async () => {
    const ignoring = await openRestStore({
      url: await scripted((socket) => socket.write(answer('200 OK', '0123456789'))),
    })
    expect((await ignoring.get(object, { offset: 3, length: 4 })).toString()).toBe('3456')
    await expect(ignoring.get(object, { offset: 8, length: 4 })).rejects.toMatchObject({ code: 'object_damaged' })
    const short = await openRestStore({
      url: await scripted((socket) =>
        socket.write(answer('206 Partial Content', '34', 'content-range: bytes 3-4/5\r\n')),
      ),
    })
    await expect(short.get(object, { offset: 3, length: 4 })).rejects.toMatchObject({ code: 'object_damaged' })
    const other = await openRestStore({
      url: await scripted((socket) =>
        socket.write(answer('206 Partial Content', '0123', 'content-range: bytes 0-3/10\r\n')),
      ),
    })
    await expect(other.get(object, { offset: 3, length: 4 })).rejects.toMatchObject({
      code: 'storage_failed',
      retry: 'later',
    })
  })

  test('lists of version 1, null, other files and nonsense', async () => {
    const listing = async (body: string) => {
      const url = await scripted((socket, text) =>
        socket.write(text.startsWith('HEAD') ? 'HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n' : answer('200 OK', body)),
      )
      return listAll(await openRestStore({ url }), 'pack')
    }
    expect(await listing(`["${object.name}"]`)).toEqual([{ name: object.name, bytes: 7 }])
    expect(await listing('null')).toEqual([])
    expect(
      await listing(`[{"name":"${object.name}","size":1},{"name":"../x","size":1},{"name":"tmp","size":2}]`),
    ).toEqual([{ name: object.name, bytes: 1 }])
    for (const nonsense of ['<html>', '{}', '[1]', '[{"name":"a"}]', `[{"name":"${object.name}","size":-1}]`]) {
      await expect(listing(nonsense)).rejects.toMatchObject({ code: 'storage_failed' })
    }
  })

  test.each([
    ['301 Moved', 'storage_failed', 'never'],
    ['401 Unauthorized', 'storage_denied', 'never'],
    ['403 Forbidden', 'storage_denied', 'never'],
    ['413 Too Large', 'storage_failed', 'never'],
    ['429 Slow Down', 'storage_failed', 'later'],
    ['500 Broken', 'storage_failed', 'later'],
    ['503 Busy', 'storage_failed', 'later'],
    ['507 Full', 'no_space', 'later'],
  ])('%s', async (status, code, retry) => {
    const store = await openRestStore({ url: await scripted((socket) => socket.write(answer(status, 'why\nnot'))) })
    await expect(store.get(object)).rejects.toMatchObject({ code, retry, message: expect.stringContaining(': why') })
  })

  test('nobody listens', async () => {
    const store = await openRestStore({ url: `http://127.0.0.1:${await freePort()}/` })
    await expect(store.put(object, Buffer.from('x'))).rejects.toMatchObject({ code: 'storage_failed', retry: 'later' })
  })

  test('an abort ends what waits, with its reason', async () => {
    const reason = new Failure({ code: 'interrupted', message: 'stop' })
    const abort = new AbortController()
    const url = await scripted(() => abort.abort(reason))
    const store = await openRestStore({ url, signal: abort.signal })
    await expect(store.get(object)).rejects.toBe(reason)
    await expect(store.get(object)).rejects.toBe(reason)
  })

  test('a put whose connection is cut, with retries, is stored once', async () => {
    const inner = new URL(bench.url('/'))
    let cuts = 3
    const { connect } = await import('node:net')
    // Cuts the first three uploads after the server has answered, before the client hears of it.
    const url = await scriptedProxy((client) => {
      const upstream = connect(Number(inner.port), '127.0.0.1')
      upstream.on('error', () => client.destroy())
      client.on('close', () => upstream.destroy())
      client.on('data', (data) => upstream.write(data))
      upstream.on('data', (data) => {
        if (cuts > 0) {
          cuts -= 1
          client.destroy()
        } else client.write(data)
      })
    })
    const plain = await bench.store('/alice/cut/')
    await plain.prepare()
    const credentialsFile = await bench.credentials('alice')
    const store = retryingStore(await openRestStore({ url: `${url}alice/cut/`, credentialsFile }), {
      clock: systemClock,
      random: systemRandom,
      pauseMs: 5,
    })
    const bytes = Buffer.alloc(300_000, 'c')
    expect(await store.put(pack(bytes), bytes)).toBe('created')
    expect(cuts).toBe(0)
    expect((await plain.get(pack(bytes))).equals(bytes)).toBe(true)
    expect(await readdir(join(bench.root, 'alice', '.uploads'))).toEqual([])
  })

  async function scriptedProxy(onClient: (client: Socket) => void): Promise<string> {
    const clients = new Set<Socket>()
    const server = createServer((client) => {
      clients.add(client)
      client.on('error', () => {}) // always followed by close
      onClient(client)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => {
      for (const client of clients) client.destroy()
      server.close()
    })
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('no port')
    return `http://127.0.0.1:${address.port}/`
  }
})
