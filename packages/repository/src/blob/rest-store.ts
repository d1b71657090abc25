/**
 * Owns the backend behind restic's REST protocol, version 2, as its references describe it ("REST Backend" in restic's
 * documentation): the client of `stillpoint vault`, of rest-server, and of what else speaks it. Does not own
 * connections (rest-http.ts); wrap it in `retryingStore` against networks.
 *
 * Invariants: 1. `get` answers exactly the bytes asked for, whatever the server makes of ranges. 2. A `put` that the
 * server refuses is `exists` only if the object is there: servers say so by different statuses.
 */
import type { IncomingMessage } from 'node:http'
import { assert, Failure, isFailure } from '@stillpoint/core/kernel'
import { isId } from '../format/ids.ts'
import type { BlobStore, ByteRange, ObjectKind, ObjectName, StoredObject } from './blob-store.ts'
import { jsonElements } from './json-elements.ts'
import { connectRestServer, type RestRequest, type RestServer, type RestServerOptions } from './rest-http.ts'

export type RestStoreOptions = RestServerOptions

const folders = { key: 'keys', lock: 'locks', snapshot: 'snapshots', index: 'index', pack: 'data' } as const
/** What one Buffer may be; no pack is near it. */
const objectBytesMax = 2 ** 31 - 1
/** `stillpoint vault` says by this header that an upload was there already. */
const outcomeHeader = 'stillpoint-outcome'

/**
 * A repository behind a REST server. Reads the files that are named; sends nothing yet.
 * @throws Failure `options_invalid`, `secret_…`, `storage_failed` (CA file)
 */
export async function openRestStore(options: RestStoreOptions): Promise<BlobStore> {
  const server = await connectRestServer(options)
  return {
    // Our vault has it; other servers look and then rename.
    traits: { atomicCreate: false },
    locate: (object) => server.locate(pathOf(object)),
    prepare: () => prepare(server),
    put: (object, bytes) => put(server, object, bytes),
    get: (object, range) => (range === undefined ? getWhole(server, object) : getRange(server, object, range)),
    size: (object) => sizeOf(server, object),
    list: (kind) => list(server, kind),
    delete: (object) => remove(server, object),
    // What interrupted uploads leave is the server's, which knows which of them are under way.
    sweep: async () => 0,
  }
}

function pathOf({ kind, name }: ObjectName): string {
  if (kind === 'config') return 'config'
  if (isId(name)) return `${folders[kind]}/${name}`
  throw new Failure({ code: 'object_missing', message: `${JSON.stringify(name)} is no name of a ${kind}` })
}

async function prepare(server: RestServer): Promise<void> {
  const request: RestRequest = { method: 'POST', path: '?create=true', doing: 'preparing' }
  const answer = await server.send(request)
  if (!isSuccess(answer)) throw await server.refusal(answer, request)
  await drained(server, answer, request)
}

async function put(server: RestServer, object: ObjectName, bytes: Uint8Array): Promise<'created' | 'exists'> {
  const headers = { 'content-type': 'application/octet-stream' }
  const request: RestRequest = { method: 'POST', path: pathOf(object), doing: 'writing', headers, body: bytes }
  const answer = await server.send(request)
  if (isSuccess(answer)) {
    await drained(server, answer, request)
    return answer.headers[outcomeHeader] === 'exists' ? 'exists' : 'created'
  }
  const refusal = await server.refusal(answer, request)
  // Invariant 2. rest-server answers 403, others 409; a vault 400 where the content is not what the name says.
  if ([400, 403, 409].includes(answer.statusCode ?? 0) && (await isThere(server, object))) return 'exists'
  throw refusal
}

async function isThere(server: RestServer, object: ObjectName): Promise<boolean> {
  try {
    return (await sizeOf(server, object)) !== undefined
  } catch (error) {
    // We may not look: then the refusal of the upload is the one to report.
    if (isFailure(error, 'storage_denied')) return false
    throw error
  }
}

async function getWhole(server: RestServer, object: ObjectName): Promise<Buffer> {
  const request: RestRequest = { method: 'GET', path: pathOf(object), doing: 'reading' }
  const answer = await server.send(request)
  if (answer.statusCode === 404) throw await missing(server, object, answer, request)
  if (answer.statusCode !== 200) throw await server.refusal(answer, request)
  return server.read(answer, request, objectBytesMax)
}

async function getRange(server: RestServer, object: ObjectName, range: ByteRange): Promise<Buffer> {
  const { offset, length } = range
  assert(Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(length) && length >= 0, 'a range')
  const request: RestRequest = { method: 'GET', path: pathOf(object), doing: 'reading' }
  if (length === 0) return emptyRange(server, object, offset)
  const ranged = { ...request, headers: { range: `bytes=${offset}-${offset + length - 1}` } }
  const answer = await server.send(ranged)
  switch (answer.statusCode) {
    case 206: {
      checkContentRange(server, object, { answer, range })
      const bytes = await server.read(answer, ranged, length)
      if (bytes.length < length) throw tooShort(server, object, range)
      return bytes
    }
    case 200: {
      // The server does not know ranges. Invariant 1.
      const whole = await server.read(answer, ranged, objectBytesMax)
      if (whole.length < offset + length) throw tooShort(server, object, range)
      return Buffer.from(whole.subarray(offset, offset + length))
    }
    case 404:
      throw await missing(server, object, answer, ranged)
    case 416:
      await drained(server, answer, ranged)
      throw tooShort(server, object, range)
    default:
      throw await server.refusal(answer, ranged)
  }
}

/** HTTP has no empty ranges. */
async function emptyRange(server: RestServer, object: ObjectName, offset: number): Promise<Buffer> {
  const bytes = await sizeOf(server, object)
  if (bytes === undefined) throw absent(server, object)
  if (offset > bytes) throw tooShort(server, object, { offset, length: 0 })
  return Buffer.alloc(0)
}

interface RangedAnswer {
  readonly answer: IncomingMessage
  readonly range: ByteRange
}

function checkContentRange(server: RestServer, object: ObjectName, { answer, range }: RangedAnswer): void {
  const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(answer.headers['content-range'] ?? '')
  const [first, last] = [Number(match?.[1]), Number(match?.[2])]
  if (match !== null && first === range.offset && last === range.offset + range.length - 1) return
  answer.destroy()
  if (match !== null && first === range.offset && last < range.offset + range.length - 1) {
    throw tooShort(server, object, range)
  }
  throw new Failure({
    code: 'storage_failed',
    message: `reading ${server.locate(pathOf(object))}: the server answers with another range than was asked for`,
    hint: 'See whether a proxy between here and the server changes answers.',
    retry: 'later',
  })
}

async function sizeOf(server: RestServer, object: ObjectName): Promise<number | undefined> {
  const request: RestRequest = { method: 'HEAD', path: pathOf(object), doing: 'looking at' }
  const answer = await server.send(request)
  if (answer.statusCode !== 200 && answer.statusCode !== 404) throw await server.refusal(answer, request)
  await drained(server, answer, request)
  if (answer.statusCode === 404) return undefined
  const bytes = Number(answer.headers['content-length'] ?? Number.NaN)
  if (Number.isSafeInteger(bytes)) return bytes
  const message = `looking at ${server.locate(request.path)}: the server does not say how long it is`
  throw new Failure({ code: 'storage_failed', message, hint: 'See whether a proxy on the way changes answers.' })
}

/** The server's list is one document, which is read as it comes. */
async function* list(server: RestServer, kind: ObjectKind): AsyncGenerator<readonly StoredObject[]> {
  if (kind === 'config') {
    const bytes = await sizeOf(server, { kind, name: 'config' })
    if (bytes !== undefined) yield [{ name: 'config', bytes }]
    return
  }
  const request: RestRequest = { method: 'GET', path: `${folders[kind]}/`, doing: 'listing' }
  const answer = await server.send(request)
  if (answer.statusCode === 404) {
    // As rest-server answers for a folder that nothing was ever put into.
    await drained(server, answer, request)
    return
  }
  if (answer.statusCode !== 200) throw await server.refusal(answer, request)
  const where = server.locate(request.path)
  for await (const entries of listedEntries(server, answer, request)) {
    const found: StoredObject[] = []
    for (const entry of entries) {
      const { name, bytes } = listedEntry(entry, where)
      // Servers that list their folders as they are show temporary files too.
      if (!isId(name)) continue
      const size = bytes ?? (await sizeOf(server, { kind, name }))
      if (size !== undefined) found.push({ name, bytes: size })
    }
    yield found
  }
}

async function* listedEntries(
  server: RestServer,
  answer: IncomingMessage,
  request: RestRequest,
): AsyncGenerator<readonly unknown[]> {
  try {
    yield* jsonElements(server.body(answer, request))
  } catch (error) {
    throw error instanceof SyntaxError ? invalidList(server.locate(request.path), error) : error
  }
}

/** Of version 2: a name with its size. Of version 1: a name alone. */
function listedEntry(entry: unknown, where: string): { readonly name: string; readonly bytes?: number } {
  if (typeof entry === 'string') return { name: entry }
  if (typeof entry !== 'object' || entry === null) throw invalidList(where)
  if (!('name' in entry) || !('size' in entry)) throw invalidList(where)
  const { name, size } = entry
  if (typeof name === 'string' && typeof size === 'number' && Number.isSafeInteger(size) && size >= 0) {
    return { name, bytes: size }
  }
  throw invalidList(where)
}

function invalidList(where: string, cause?: unknown): Failure {
  return new Failure({
    code: 'storage_failed',
    message: `listing ${where}: the server's answer is no list of objects`,
    hint: 'Check the URL: is it the repository of a REST server?',
    cause,
  })
}

async function remove(server: RestServer, object: ObjectName): Promise<void> {
  const request: RestRequest = { method: 'DELETE', path: pathOf(object), doing: 'deleting' }
  const answer = await server.send(request)
  if (answer.statusCode === 404) throw await missing(server, object, answer, request)
  if (!isSuccess(answer)) throw await server.refusal(answer, request)
  await drained(server, answer, request)
}

function isSuccess(answer: IncomingMessage): boolean {
  return answer.statusCode === 200 || answer.statusCode === 201 || answer.statusCode === 204
}

/** Reads what nobody needs, so that the connection can be used again. */
async function drained(server: RestServer, answer: IncomingMessage, request: RestRequest): Promise<void> {
  await server.read(answer, request, 1 << 20)
}

async function missing(
  server: RestServer,
  object: ObjectName,
  answer: IncomingMessage,
  request: RestRequest,
): Promise<Failure> {
  await drained(server, answer, request)
  return absent(server, object)
}

function absent(server: RestServer, object: ObjectName): Failure {
  const message = `${object.kind} ${object.name} is not at ${server.locate(pathOf(object))}`
  return new Failure({ code: 'object_missing', message })
}

function tooShort(server: RestServer, object: ObjectName, { offset, length }: ByteRange): Failure {
  const where = server.locate(pathOf(object))
  return new Failure({
    code: 'object_damaged',
    message: `${object.kind} ${object.name} at ${where} is damaged: it ends before byte ${offset + length}`,
    hint: 'See what is affected: check the repository with all data read.',
  })
}
