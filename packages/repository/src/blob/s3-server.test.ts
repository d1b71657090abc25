/**
 * The store on S3 against servers that answer as real ones have: what they refuse, leave out, cut off or get wrong, and
 * what is asked of them. The server here is made for that; the real one is in s3-store.test.ts.
 */
import { createHash } from 'node:crypto'
import dns from 'node:dns'
import { writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { sha256 } from '../format/ids.ts'
import { clock, scratch, seeded } from '../testing/testbed.ts'
import { configObject, listAll } from './blob-store.ts'
import { retryingStore } from './retrying.ts'
import { openS3Store, type S3StoreOptions } from './s3-store.ts'

interface Seen {
  readonly method: string
  /** Path and query, without the bucket. */
  readonly url: string
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
}

interface Answer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Buffer
}

type Respond = (request: Seen, response: ServerResponse) => Answer | undefined

/** A store on a server that answers as `respond` says; undefined: it has answered, or never will. */
async function scripted(respond: Respond, options: Partial<S3StoreOptions> = {}) {
  const seen: Seen[] = []
  const server = createServer(async (request, response) => {
    const pieces: Buffer[] = []
    for await (const piece of request) pieces.push(piece)
    const url = (request.url ?? '').replace(/^\/bucket\/?/, '')
    const asked = { method: request.method ?? '', url, headers: request.headers, body: Buffer.concat(pieces) }
    seen.push(asked)
    const answer = respond(asked, response)
    if (answer !== undefined) response.writeHead(answer.status, answer.headers).end(answer.body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const location = `s3:http://127.0.0.1:${address.port}/bucket`
  for (const [name, value] of Object.entries({ AWS_ACCESS_KEY_ID: 'us', AWS_SECRET_ACCESS_KEY: 'a secret' })) {
    const before = process.env[name]
    process.env[name] = value
    onTestFinished(() => {
      if (before === undefined) delete process.env[name]
      else process.env[name] = before
    })
  }
  return { seen, store: await openS3Store({ location, clock, ...options }) }
}

const refusal = (status: number, code: string, said = 'why\nnot'): Answer => ({
  status,
  headers: { 'content-type': 'application/xml' },
  body: `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${said}</Message></Error>`,
})
const ok: Answer = { status: 200 }
const pack = (bytes: Uint8Array) => ({ kind: 'pack', name: sha256(bytes) }) as const
const bytes = Buffer.from('x'.repeat(100))
const object = pack(bytes)

describe('what is asked', () => {
  /** Keeps objects, and knows conditions where it is told to. */
  function keeping(knowsConditions: boolean, extra: (request: Seen) => Answer | undefined = () => undefined): Respond {
    const objects = new Map<string, Buffer>()
    return (request) => {
      const special = extra(request)
      if (special !== undefined) return special
      const path = request.url.replace(/\?.*$/, '')
      const there = objects.get(path)
      if (request.method === 'PUT') {
        if (knowsConditions && request.headers['if-none-match'] === '*' && there !== undefined) {
          return refusal(412, 'PreconditionFailed')
        }
        objects.set(path, request.body)
        return { status: 200, headers: { etag: '"e"' } }
      }
      if (there === undefined) return refusal(404, 'NoSuchKey')
      if (request.method === 'DELETE') objects.delete(path)
      return { status: 200, headers: { 'content-length': String(there.length) }, body: there }
    }
  }

  test('a server that honours the condition is found out, and asked no more than that', async () => {
    const { seen, store } = await scripted(keeping(true))
    expect(store.traits.atomicCreate).toBe(false)
    expect(await store.put(object, bytes)).toBe('created')
    expect(store.traits.atomicCreate).toBe(true)
    expect(seen.map(({ method }) => method)).toEqual(['HEAD', 'PUT', 'PUT'])
    expect(await store.put(configObject, bytes)).toBe('created')
    expect(await store.put(configObject, Buffer.from('other'))).toBe('exists')
    expect(seen.map(({ method }) => method)).toEqual(['HEAD', 'PUT', 'PUT', 'PUT', 'PUT'])
  })

  test('a server that ignores it is found out, and looked at before each upload', async () => {
    const { seen, store } = await scripted(keeping(false))
    expect(await store.put(object, bytes)).toBe('created')
    expect(store.traits.atomicCreate).toBe(false)
    expect(await store.put(object, bytes)).toBe('exists')
    expect(seen.map(({ method }) => method)).toEqual(['HEAD', 'PUT', 'PUT', 'HEAD'])
  })

  test('uploads carry the hash that is their name, and nothing that older servers do not know', async () => {
    const { seen, store } = await scripted(keeping(true))
    await store.put(object, bytes)
    const [put] = seen.filter(({ method }) => method === 'PUT')
    expect(put?.headers['x-amz-content-sha256']).toBe(object.name)
    expect(put?.headers['authorization']).toMatch(/^AWS4-HMAC-SHA256 Credential=us\//)
    const unknown = /^(x-amz-(checksum|sdk-checksum|trailer|object-lock|storage-class)|expect$|content-md5$)/
    expect(Object.keys(put?.headers ?? {}).filter((name) => unknown.test(name))).toEqual([])
    expect(put?.url).toBe(`data/${object.name.slice(0, 2)}/${object.name}?x-id=PutObject`)
  })

  test('storage class for packs; Object Lock and its end for all but locks; a checksum', async () => {
    const isEnabled = `<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>`
    const extra = ({ url }: Seen) => (url.includes('object-lock') ? { status: 200, body: isEnabled } : undefined)
    const { seen, store } = await scripted(keeping(true, extra), {
      storageClass: 'STANDARD_IA',
      retention: { mode: 'COMPLIANCE', days: 30 },
    })
    const before = Date.now()
    for (const kind of ['lock', 'pack', 'index'] as const) await store.put({ ...object, kind }, bytes)
    const protection = seen
      .filter(({ method }) => method === 'PUT')
      .map(({ url, headers }) => ({
        kind: url.replace(/\/.*/, ''),
        mode: headers['x-amz-object-lock-mode'],
        md5: headers['content-md5'],
        storageClass: headers['x-amz-storage-class'],
        until: headers['x-amz-object-lock-retain-until-date'],
      }))
    const md5 = createHash('md5').update(bytes).digest('base64')
    expect(protection).toMatchObject([
      { kind: 'locks' },
      { kind: 'locks' },
      { kind: 'data', mode: 'COMPLIANCE', md5, storageClass: 'STANDARD_IA' },
      { kind: 'index', mode: 'COMPLIANCE', md5 },
    ])
    // Locks too: the bucket may have a retention of its own, which wants it.
    expect(protection[0]).toMatchObject({ mode: undefined, md5, storageClass: undefined, until: undefined })
    const endMs = Date.parse(String(protection[2]?.until))
    expect(Math.abs(endMs - before - 30 * 86_400_000)).toBeLessThan(60_000)
    expect(seen.filter(({ url }) => url.includes('object-lock'))).toHaveLength(1)
  })

  test('where the bucket’s own retention wants a checksum, it is learnt from the first refusal', async () => {
    const wanted =
      'Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters'
    const { seen, store } = await scripted(
      keeping(true, ({ method, headers }) =>
        method === 'PUT' && headers['content-md5'] === undefined ? refusal(400, 'InvalidRequest', wanted) : undefined,
      ),
    )
    expect(await store.put(object, bytes)).toBe('created')
    expect(store.traits.atomicCreate).toBe(true)
    const other = Buffer.from('other')
    expect(await store.put(pack(other), other)).toBe('created')
    const sums = seen.filter(({ method }) => method === 'PUT').map(({ headers }) => headers['content-md5'])
    const md5 = (content: Buffer) => createHash('md5').update(content).digest('base64')
    expect(sums).toEqual([undefined, md5(bytes), md5(bytes), md5(other)])
  })

  test('a bucket that is to protect is made with Object Lock', async () => {
    const { seen, store } = await scripted(({ method }) => (method === 'HEAD' ? { status: 404 } : ok), {
      retention: { mode: 'GOVERNANCE', days: 1 },
    })
    await store.prepare()
    expect(seen.at(-1)).toMatchObject({ method: 'PUT', headers: { 'x-amz-bucket-object-lock-enabled': 'true' } })
  })

  test('on Amazon the bucket is in the host’s name, and so is the region; nothing has to be found out', async () => {
    const names: string[] = []
    const spy = vi.spyOn(dns, 'lookup').mockImplementation(((
      name: string,
      _: unknown,
      done: (error: Error) => void,
    ) => {
      names.push(name)
      done(Object.assign(new Error('not here'), { code: 'ENOTFOUND' }))
    }) as typeof dns.lookup)
    onTestFinished(() => spy.mockRestore())
    const keys = join(await scratch(), 'credentials')
    await writeFile(keys, '[default]\naws_access_key_id=a\naws_secret_access_key=b\n', { mode: 0o600 })
    const open = (location: string, region = {}) => openS3Store({ location, credentialsFile: keys, ...region })
    const frankfurt = await open('s3:s3.eu-central-1.amazonaws.com/bucket/x')
    expect(frankfurt.traits.atomicCreate).toBe(true)
    const named = await open('s3:https://s3.amazonaws.com/bucket', { region: 'eu-west-3' })
    for (const store of [frankfurt, named]) {
      await expect(store.put(object, bytes)).rejects.toMatchObject({ code: 'storage_failed', retry: 'later' })
    }
    expect(names).toEqual(['bucket.s3.eu-central-1.amazonaws.com', 'bucket.s3.eu-west-3.amazonaws.com'])
  })

  test('a bucket that may not be looked at is used', async () => {
    const { seen, store } = await scripted(() => ({ status: 403 }))
    await store.prepare()
    expect(seen).toHaveLength(1)
  })

  test('parts of an upload that fails are given back', async () => {
    const upload = '<InitiateMultipartUploadResult><UploadId>up</UploadId></InitiateMultipartUploadResult>'
    const { seen, store } = await scripted(
      ({ method, url }) => {
        if (method === 'HEAD') return { status: 404 }
        if (method === 'POST' && url.includes('uploads')) return { status: 200, body: upload }
        if (url.includes('partNumber=2')) return refusal(503, 'SlowDown')
        return { status: method === 'DELETE' ? 204 : 200, headers: { etag: '"e"' } }
      },
      { partBytes: 5 << 20 },
    )
    const large = Buffer.alloc((10 << 20) + 1)
    await expect(store.put(pack(large), large)).rejects.toMatchObject({ code: 'storage_failed', retry: 'later' })
    expect(seen.at(-1)).toMatchObject({ method: 'DELETE', url: expect.stringContaining('uploadId=up') })
  })
})

describe('what is answered', () => {
  test.each([
    [400, 'BadRequest', 'storage_failed', 'never'],
    [400, 'RequestTimeout', 'storage_failed', 'later'],
    [400, 'ExpiredToken', 'storage_denied', 'later'],
    [401, 'Unauthorized', 'storage_denied', 'never'],
    [403, 'AccessDenied', 'storage_denied', 'never'],
    [403, 'InvalidAccessKeyId', 'storage_denied', 'never'],
    [403, 'InvalidObjectState', 'storage_failed', 'never'],
    [403, 'RequestTimeTooSkewed', 'storage_denied', 'later'],
    [404, 'NoSuchKey', 'object_missing', 'never'],
    [404, 'NoSuchBucket', 'object_missing', 'never'],
    [409, 'OperationAborted', 'storage_failed', 'later'],
    [416, 'InvalidRange', 'object_damaged', 'never'],
    [429, 'TooManyRequests', 'storage_failed', 'later'],
    [500, 'InternalError', 'storage_failed', 'later'],
    [501, 'NotImplemented', 'storage_failed', 'never'],
    [503, 'SlowDown', 'storage_failed', 'later'],
    [507, 'XMinioStorageFull', 'no_space', 'later'],
  ])('%i %s', async (status, words, code, retry) => {
    const { store } = await scripted(() => refusal(status, words))
    const failure = await store.get(object, { offset: 0, length: 10 }).catch((error: unknown) => error)
    expect(failure).toMatchObject({ code, retry })
    expect(JSON.stringify(failure) + String(failure)).not.toContain('a secret')
    if (code.startsWith('storage')) expect(String(failure)).toContain(`${status} ${words}: why not`)
  })

  test('an error that is no XML', async () => {
    const { store } = await scripted(() => ({ status: 502, body: '<html>Bad Gateway' }))
    await expect(store.get(object)).rejects.toMatchObject({ code: 'storage_failed', retry: 'later' })
  })

  test('a server that is busy for a while is asked again', async () => {
    let busy = 3
    const { store } = await scripted(() => {
      busy -= 1
      return busy >= 0 ? refusal(503, 'SlowDown') : { status: 200, body: bytes }
    })
    const patient = retryingStore(store, { clock, random: seeded(1), pauseMs: 1 })
    expect(await patient.get(object)).toEqual(bytes)
    expect(busy).toBe(-1)
  })

  test('it is told who we are', async () => {
    const answer = { status: 200, body: 'content' }
    const named = await scripted(() => answer, { userAgent: 'nightly/2 (bank)' })
    await named.store.get(object)
    expect(named.seen.map(({ headers }) => headers['user-agent'])).toEqual(['nightly/2 (bank)'])
    const usual = await scripted(() => answer)
    await usual.store.get(object)
    expect(usual.seen.map(({ headers }) => headers['user-agent'])).toEqual([expect.stringContaining('stillpoint')])
  })

  test('silence ends, also in the middle of an answer', async () => {
    const silent = await scripted(() => undefined, { silenceMsMax: 100 })
    await expect(silent.store.get(object)).rejects.toMatchObject({ code: 'storage_failed', retry: 'later' })
    const half = await scripted(
      (_, response) => {
        response.writeHead(200, { 'content-length': '100' }).write('half')
        return undefined
      },
      { silenceMsMax: 100 },
    )
    await expect(half.store.get(object)).rejects.toMatchObject({ code: 'storage_failed', retry: 'later' })
  })

  test('an answer that is cut off is not taken for whole', async () => {
    const { store } = await scripted((_, response) => {
      response.writeHead(200, { 'content-length': '100' }).write('half', () => response.destroy())
      return undefined
    })
    await expect(store.get(object)).rejects.toMatchObject({ code: 'storage_failed', retry: 'later' })
    await expect(listAll(store, 'pack')).rejects.toMatchObject({ code: 'storage_failed', retry: 'later' })
  })

  test('ranges that are ignored, short, long, or others than asked for', async () => {
    const ignoring = await scripted(() => ({ status: 200, body: '0123456789' }))
    expect((await ignoring.store.get(object, { offset: 3, length: 4 })).toString()).toBe('3456')
    await expect(ignoring.store.get(object, { offset: 8, length: 4 })).rejects.toMatchObject({ code: 'object_damaged' })
    const ranged = async (range: string, body: string) => {
      const answer = { status: 206, headers: { 'content-range': `bytes ${range}` }, body }
      return (await scripted(() => answer)).store.get(object, { offset: 3, length: 4 })
    }
    expect((await ranged('3-6/10', '3456')).toString()).toBe('3456')
    await expect(ranged('3-4/5', '34')).rejects.toMatchObject({ code: 'object_damaged' })
    await expect(ranged('0-3/10', '0123')).rejects.toMatchObject({ code: 'storage_failed', retry: 'later' })
    await expect(ranged('3-9/10', '3456789')).rejects.toMatchObject({ code: 'storage_failed' })
  })

  test('an abort ends what waits, with its reason', async () => {
    const reason = new Failure({ code: 'interrupted', message: 'stop' })
    const abort = new AbortController()
    const { store } = await scripted(
      () => {
        abort.abort(reason)
        return undefined
      },
      { signal: abort.signal },
    )
    await expect(store.get(object)).rejects.toBe(reason)
    await expect(store.put(object, bytes)).rejects.toBe(reason)
  })
})

describe('lists', () => {
  const key = (name: string) => `data/${name.slice(0, 2)}/${name}`
  const page = (entries: readonly string[], next = '') =>
    `<ListBucketResult><IsTruncated>${next !== ''}</IsTruncated>${next}${entries.join('')}</ListBucketResult>`
  const entry = (path: string, size = '<Size>7</Size>') => `<Contents><Key>${path}</Key>${size}</Contents>`
  const listing = async (body: string) => listAll((await scripted(() => ({ status: 200, body }))).store, 'pack')

  test('what others have put there is left out', async () => {
    const strange = ['data/x', `data/00/${object.name}`, `data/${object.name}`, `x/${key(object.name)}`, 'data/']
    expect(await listing(page([...strange, key(object.name)].map((path) => entry(path))))).toEqual([
      { name: object.name, bytes: 7 },
    ])
    expect(await listing(page([]))).toEqual([])
  })

  test('a list without sizes, or without an end, is refused', async () => {
    const next = '<NextContinuationToken>same</NextContinuationToken>'
    const nowhere = page([]).replace('false', 'true')
    for (const body of [page([entry(key(object.name), '')]), page([], next), nowhere]) {
      await expect(listing(body)).rejects.toMatchObject({ code: 'storage_failed', retry: 'never' })
    }
  })

  test('pages are asked for as they are taken, and what the store has done is held against all of them', async () => {
    const stored = ['a', 'b', 'c', 'd'].map((text) => pack(Buffer.from(text)))
    const [deleted, first, second, unlisted] = stored.map(({ name }) => name)
    const next = '<NextContinuationToken>second</NextContinuationToken>'
    const empty = { status: 200, headers: { 'content-length': '0' } }
    const pageOf = (...names: readonly (string | undefined)[]) => names.map((name = '') => entry(key(name)))
    let isGone = false
    const { seen, store } = await scripted(({ method, url }) => {
      if (url.includes('continuation-token=second')) return { status: 200, body: page(pageOf(second)) }
      if (url.startsWith('?')) return { status: 200, body: page(pageOf(deleted, first), next) }
      isGone ||= method === 'DELETE'
      return isGone && method === 'HEAD' && url.includes(deleted ?? '') ? { status: 404 } : empty
    })
    const listings = () => seen.filter(({ method, url }) => method === 'GET' && url.startsWith('?')).length
    await store.put({ kind: 'pack', name: unlisted ?? '' }, Buffer.alloc(0))
    await store.delete({ kind: 'pack', name: deleted ?? '' })
    const batches: (readonly [number, readonly string[]])[] = []
    for await (const batch of store.list('pack')) batches.push([listings(), batch.map(({ name }) => name)])
    expect(batches).toEqual([
      [1, [first]],
      [2, [second]],
      [2, [unlisted]],
    ])
    for await (const _ of store.list('pack')) break
    expect(listings()).toBe(3)
  })

  test('one that comes late hides nothing that the store itself has done', async () => {
    const objects = new Map<string, Buffer>()
    const stale = pack(Buffer.from('stale'))
    const { store } = await scripted(({ method, url, body }) => {
      // For ever as it was before anything was done.
      if (url.startsWith('?')) return { status: 200, body: page([entry(key(stale.name))]) }
      const path = url.replace(/\?.*$/, '')
      if (method === 'PUT') objects.set(path, body)
      if (method === 'DELETE') objects.delete(path)
      const there = objects.get(path)
      if (there === undefined) return { status: method === 'DELETE' ? 204 : 404 }
      return { status: 200, headers: { 'content-length': String(there.length) }, body: there }
    })
    await store.put(stale, Buffer.from('stale'))
    await store.put(object, bytes)
    expect((await listAll(store, 'pack')).map(({ name }) => name).sort()).toEqual([stale.name, object.name].sort())
    await store.delete(stale)
    expect(await listAll(store, 'pack')).toEqual([{ name: object.name, bytes: bytes.length }])
    // Deleted by somebody else: the list does not know it either, and it is not made up.
    objects.clear()
    expect(await listAll(store, 'pack')).toEqual([])
  })
})

describe('as of a moment', () => {
  const asOf = new Date('2026-03-01T12:00:00Z')
  const name = (digit: string) => digit.repeat(64)
  const key = (digit: string) => `data/${digit.repeat(2)}/${name(digit)}`
  const version = (digit: string, id: string, at: string, size = '<Size>5</Size>') =>
    `<Version><Key>${key(digit)}</Key><VersionId>${id}</VersionId><LastModified>2026-${at}Z</LastModified>${size}</Version>`
  const removal = (digit: string, at: string) =>
    `<DeleteMarker><Key>${key(digit)}</Key><VersionId>m</VersionId><LastModified>2026-${at}Z</LastModified></DeleteMarker>`
  const page = (entries: readonly string[], next = '') =>
    `<ListVersionsResult><IsTruncated>${next !== ''}</IsTruncated>${next}${entries.join('')}</ListVersionsResult>`
  const nextAfter = (digit: string) =>
    `<NextKeyMarker>${key(digit)}</NextKeyMarker><NextVersionIdMarker>n</NextVersionIdMarker>`

  test('of each name the newest version that is not newer, over all pages; what others put there is left out', async () => {
    const first = [
      version('a', 'a3', '03-02T00:00:00'),
      version('a', 'a2', '03-01T12:00:00'),
      version('a', 'a1', '01-01T00:00:00'),
      removal('b', '02-01T00:00:00'),
      version('b', 'b1', '01-01T00:00:00'),
      version('c', 'c1', '04-01T00:00:00'),
    ]
    const second = [
      removal('d', '03-02T00:00:00'),
      version('d', 'd1', '02-01T00:00:00'),
      // In one second: the version counts, and of two the first in the list.
      removal('e', '02-01T00:00:00'),
      version('e', 'e2', '02-01T00:00:00'),
      version('e', 'e1', '02-01T00:00:00'),
      version('f', 'f1', '02-01T00:00:00').replace(key('f'), `data/00/${name('f')}`),
      version('f', 'f2', '02-01T00:00:00').replace(key('f'), 'data/notes.txt'),
    ]
    const { seen, store } = await scripted(
      ({ url }) => {
        if (url.includes('versionId=')) return { status: 200, body: 'bytes' }
        if (url.includes('key-marker=')) return { status: 200, body: page(second) }
        return { status: 200, body: page(first, nextAfter('c')) }
      },
      { asOf },
    )
    const listed = await listAll(store, 'pack')
    expect(listed.map((object) => object.name).sort()).toEqual(['a', 'd', 'e'].map(name))
    for (const [digit, id] of [
      ['a', 'a2'],
      ['d', 'd1'],
      ['e', 'e2'],
    ] as const) {
      const object = { kind: 'pack', name: name(digit) } as const
      expect((await store.get(object)).toString()).toBe('bytes')
      expect(seen.at(-1)?.url).toContain(`versionId=${id}`)
      expect(await store.size(object)).toBe(5)
      expect(await store.get(object, { offset: 5, length: 0 })).toHaveLength(0)
    }
    for (const digit of ['b', 'c', 'f']) {
      const object = { kind: 'pack', name: name(digit) } as const
      await expect(store.get(object)).rejects.toMatchObject({ code: 'object_missing' })
      expect(await store.size(object)).toBeUndefined()
    }
  })

  test('nothing is changed: all but locks is refused, and locks stay here', async () => {
    const { seen, store } = await scripted(() => ({ status: 200, body: page([]) }), { asOf })
    const lock = { kind: 'lock', name: name('a') } as const
    expect(await store.put(lock, bytes)).toBe('created')
    expect(await store.put(lock, bytes)).toBe('exists')
    expect(await store.get(lock)).toEqual(bytes)
    expect(await listAll(store, 'lock')).toEqual([{ name: lock.name, bytes: bytes.length }])
    await store.delete(lock)
    await expect(store.delete(lock)).rejects.toMatchObject({ code: 'object_missing' })
    await expect(store.get(lock)).rejects.toMatchObject({ code: 'object_missing' })
    for (const change of [
      () => store.prepare(),
      () => store.put(object, bytes),
      () => store.delete(object),
      () => store.sweep(),
    ]) {
      await expect(change()).rejects.toMatchObject({ code: 'storage_denied', retry: 'never' })
    }
    expect(seen).toEqual([])
  })

  test('lists that do not end, or have no sizes, and servers without versions', async () => {
    const listing = async (answer: Answer) => listAll((await scripted(() => answer, { asOf })).store, 'pack')
    const endless = { status: 200, body: page([], nextAfter('c')) }
    await expect(listing(endless)).rejects.toMatchObject({ code: 'storage_failed' })
    const sizeless = { status: 200, body: page([version('a', 'a1', '01-01T00:00:00', '')]) }
    await expect(listing(sizeless)).rejects.toMatchObject({ code: 'storage_failed' })
    await expect(listing(refusal(501, 'NotImplemented'))).rejects.toMatchObject({ code: 'storage_failed' })
    await expect(scripted(() => ok, { asOf: new Date(Number.NaN) })).rejects.toMatchObject({ code: 'options_invalid' })
  })
})
