/**
 * The HTTP side of the vault: restic's REST protocol, versions 1 and 2.
 *
 * Owns: who may do what, statuses, ranges, the limits of an upload. Does not own: secrets (authentication.ts), names
 * (request-target.ts), files (object-files.ts), sums (usage.ts).
 *
 * Invariants:
 * - Nothing is looked at, and nothing of a body is read for its content, before it is known who asks and that it is
 *   theirs.
 * - What is answered 200 to an upload is durable.
 */
import { statfs } from 'node:fs/promises'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { type Clock, describeFailure, Failure, isFailure } from '@stillpoint/core/kernel'
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify'
import type { Authentication, Visitor } from './authentication.ts'
import { byteRange } from './byte-range.ts'
import type { VaultMetrics } from './metrics.ts'
import { type ListedObject, type ObjectFiles, repositoryAbsent } from './object-files.ts'
import { type ObjectAt, parseTarget, type RepositoryAt, type RequestTarget } from './request-target.ts'
import type { Account, Usage } from './usage.ts'

export interface VaultAppOptions {
  readonly root: string
  /** Nobody may delete anything but locks. */
  readonly appendOnly: boolean
  /** For users without one of their own. */
  readonly quotaBytes?: number
  /** Uploads are refused that would leave less on the disk. */
  readonly freeBytesMin: number
  /** The longest silence of a client that we wait for. What we take ourselves, to hash or to sync, does not count. */
  readonly silenceMsMax: number
  readonly authentication: Authentication
  readonly files: ObjectFiles
  readonly usage: Usage
  readonly metrics: VaultMetrics
  readonly clock: Clock
  readonly log: VaultLog
  readonly createServer: ServerFactory
}

export type ServerFactory = (handler: (request: IncomingMessage, reply: ServerResponse) => void) => Server

export interface VaultLogEntry {
  readonly level: 'info' | 'warn' | 'error'
  readonly message: string
  readonly [field: string]: unknown
}
/** Never a password, never a token. */
export type VaultLog = (entry: VaultLogEntry) => void

const versionTypes = { 1: 'application/vnd.x.restic.rest.v1', 2: 'application/vnd.x.restic.rest.v2' } as const
const outcomeHeader = 'stillpoint-outcome'
const smallBytesMax = 1024 * 1024
const objectBytesMax = 4 * 1024 ** 3
/** What is read and thrown away of a refused upload, so that its sender reads why. */
const lingerBytesMax = 64 * 1024 * 1024
const lingerMs = 3_000

const bytesMaxOf: Readonly<Record<ObjectAt['folder'], number>> = {
  config: smallBytesMax,
  keys: smallBytesMax,
  locks: smallBytesMax,
  data: objectBytesMax,
  index: objectBytesMax,
  snapshots: objectBytesMax,
}

const statusByCode: Readonly<Record<string, number>> = {
  unauthenticated: 401,
  vault_forbidden: 403,
  append_only: 403,
  object_exists: 403,
  object_missing: 404,
  repository_absent: 404,
  route_absent: 404,
  method_refused: 405,
  request_invalid: 400,
  upload_damaged: 400,
  upload_cut_off: 400,
  request_too_large: 413,
  range_unsatisfiable: 416,
  vault_busy: 503,
  no_space: 507,
  quota_exceeded: 507,
}

export function createVaultApp(options: VaultAppOptions): FastifyInstance {
  const app = fastify({
    serverFactory: (handler) => options.createServer(handler),
    exposeHeadRoutes: false,
    frameworkErrors: (error, request, reply) => void refuse(options, { request, reply, error }),
  })
  app.removeAllContentTypeParsers()
  // Bodies are streams: nothing is read before a route does.
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
  app.setErrorHandler((error, request, reply) => refuse(options, { request, reply, error }))
  app.setNotFoundHandler((request, reply) => refuse(options, { request, reply, error: routeAbsent(request) }))
  app.addHook('onRequest', async (request) => {
    request.raw.socket.setTimeout(0)
  })
  let isStopping = false
  app.addHook('preClose', async () => {
    isStopping = true
  })
  app.addHook('onSend', async (request, reply) => {
    // A connection that stayed open after its last answer would hold up the end.
    if (isStopping) reply.header('connection', 'close')
    request.raw.socket.setTimeout(options.silenceMsMax)
  })
  app.addHook('onResponse', async (request, reply) => {
    options.metrics.requests.add({ method: request.method, status: String(reply.statusCode) })
  })
  app.route({
    method: ['GET', 'HEAD', 'POST', 'DELETE'],
    url: '*',
    handler: (request, reply) => handle(options, request, reply),
  })
  return app
}

async function handle(options: VaultAppOptions, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const visitor = await options.authentication.check(request.headers.authorization)
  const target = parseTarget(request.raw.url ?? '')
  if (target === undefined) throw routeAbsent(request)
  if (target.place.user !== visitor.user) {
    const message = `${visitor.user} has no business with ${target.place.user}`
    throw new Failure({
      code: 'vault_forbidden',
      message,
      hint: `Repositories of ${visitor.user} are below /${visitor.user}/.`,
    })
  }
  const call = { options, request, reply, visitor }
  switch (target.kind) {
    case 'repository':
      return onRepository(call, target.place)
    case 'folder':
      return onFolder(call, target)
    case 'object':
      return onObject(call, target)
  }
}

interface Call {
  readonly options: VaultAppOptions
  readonly request: FastifyRequest
  readonly reply: FastifyReply
  readonly visitor: Visitor
}

async function onRepository({ options, request, reply }: Call, place: RepositoryAt): Promise<FastifyReply> {
  if (request.method !== 'POST') throw methodRefused(request, 'POST')
  const query = request.raw.url?.split('?', 2)[1] ?? ''
  if (new URLSearchParams(query).get('create') !== 'true') {
    const message = 'A repository is made by POST with ?create=true'
    throw new Failure({ code: 'request_invalid', message, hint: '"restic init" does it.' })
  }
  await options.files.create(place)
  return reply.code(200).send()
}

type FolderTarget = Extract<RequestTarget, { kind: 'folder' }>
type ObjectTarget = Extract<RequestTarget, { kind: 'object' }>

async function onFolder({ options, request, reply }: Call, { place, folder }: FolderTarget): Promise<FastifyReply> {
  if (request.method !== 'GET') throw methodRefused(request, 'GET')
  const objects = await options.files.list(place, folder)
  if (objects === undefined) throw repositoryAbsent(place)
  const version = request.headers.accept?.includes(versionTypes[2]) === true ? 2 : 1
  // Not Fastify's own way of setting it: that would add a charset, and restic compares the whole.
  reply.raw.setHeader('content-type', versionTypes[version])
  return reply.send(Readable.from(listText(objects, version)))
}

async function* listText(objects: AsyncGenerator<ListedObject>, version: 1 | 2): AsyncGenerator<Buffer> {
  let text = '['
  let isFirst = true
  for await (const { name, bytes } of objects) {
    text += `${isFirst ? '' : ','}${version === 1 ? `"${name}"` : `{"name":"${name}","size":${bytes}}`}`
    isFirst = false
    if (text.length < 32 * 1024) continue
    yield Buffer.from(text)
    text = ''
  }
  yield Buffer.from(`${text}]`)
}

function onObject(call: Call, target: ObjectTarget): Promise<FastifyReply> {
  switch (call.request.method) {
    case 'HEAD':
      return measure(call, target)
    case 'GET':
      return download(call, target)
    case 'POST':
      return upload(call, target)
    case 'DELETE':
      return remove(call, target)
    default:
      throw methodRefused(call.request, 'GET, HEAD, POST, DELETE')
  }
}

async function measure({ options, reply }: Call, { place, object }: ObjectTarget): Promise<FastifyReply> {
  const bytes = await options.files.size(place, object)
  if (bytes === undefined) throw objectMissing(object)
  return reply.header('content-length', bytes).header('accept-ranges', 'bytes').send()
}

async function download(call: Call, { place, object }: ObjectTarget): Promise<FastifyReply> {
  const { options, request, reply, visitor } = call
  const opened = await options.files.open(place, object)
  if (opened === undefined) throw objectMissing(object)
  const { file, bytes } = opened
  const range = byteRange(request.headers.range, bytes)
  if (range === 'unsatisfiable') {
    await file.close()
    reply.header('content-range', `bytes */${bytes}`)
    const message = `There are ${bytes} bytes, and none in the range asked for`
    throw new Failure({ code: 'range_unsatisfiable', message })
  }
  reply.header('accept-ranges', 'bytes').type('application/octet-stream')
  const { first, last } = range ?? { first: 0, last: bytes - 1 }
  if (range !== undefined) reply.code(206).header('content-range', `bytes ${first}-${last}/${bytes}`)
  reply.header('content-length', last - first + 1)
  if (last < first) {
    await file.close()
    return reply.send('')
  }
  const stream = file.createReadStream({ start: first, end: last })
  stream.once('close', () => options.metrics.sent.add({ user: visitor.user, folder: object.folder }, stream.bytesRead))
  return reply.send(stream)
}

async function upload(call: Call, { place, object }: ObjectTarget): Promise<FastifyReply> {
  const { options, request, reply, visitor } = call
  const { files, usage, metrics } = options
  const announced = announcedBytes(request)
  const bytesMax = bytesMaxOf[object.folder]
  if (announced !== undefined && announced > bytesMax) throw tooLarge(object, bytesMax)
  await checkDisk(options, announced ?? 0)
  const reservation = await usage.reserve(accountOf(options, visitor), object.folder)
  metrics.uploadsRunning += 1
  try {
    // All of it at once where its length is known: refused before it is sent, not in its middle.
    let admitted = announced ?? 0
    reservation.add(admitted)
    let received = 0
    const admit = (bytes: number) => {
      received += bytes
      if (received > bytesMax) throw tooLarge(object, bytesMax)
      if (received <= admitted) return
      reservation.add(received - admitted)
      admitted = received
    }
    const { outcome, bytes } = await files.put({
      place,
      object,
      stream: bodyOf(request.raw, options.silenceMsMax),
      admit,
    })
    metrics.received.add({ user: visitor.user, folder: object.folder }, bytes)
    if (outcome === 'created') {
      reservation.keep(bytes)
      metrics.written.add({ user: visitor.user, folder: object.folder })
    }
    return reply.code(200).header(outcomeHeader, outcome).send()
  } finally {
    reservation.release()
    metrics.uploadsRunning -= 1
  }
}

/** The body as it comes. It is left open where it is not wanted any more: the answer still goes the same way. */
async function* bodyOf(raw: IncomingMessage, silenceMsMax: number): AsyncGenerator<Uint8Array> {
  try {
    raw.socket.setTimeout(silenceMsMax)
    for await (const piece of raw.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) yield piece
    raw.socket.setTimeout(0)
  } catch (cause) {
    if (!raw.destroyed) throw cause
    const message = 'The connection was cut before the whole upload had arrived'
    throw new Failure({ code: 'upload_cut_off', message, retry: 'later', cause })
  }
}

function announcedBytes({ headers }: FastifyRequest): number | undefined {
  const text = headers['content-length']
  // Node has refused what is no number.
  return text === undefined ? undefined : Number(text)
}

function accountOf({ quotaBytes: usual }: VaultAppOptions, { user, quotaBytes = usual }: Visitor): Account {
  return quotaBytes === undefined ? { user } : { user, quotaBytes }
}

/** Before the disk is full, while there is still room for what ends things in order. */
async function checkDisk({ root, freeBytesMin }: VaultAppOptions, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(root)
  if (bavail * bsize - bytes >= freeBytesMin) return
  throw new Failure({
    code: 'no_space',
    message: `The disk of the vault is nearly full: ${bavail * bsize} bytes are free, and ${freeBytesMin} must stay`,
    hint: 'Make room on the disk of the vault; what is stored already is kept.',
    retry: 'later',
  })
}

async function remove(call: Call, { place, object }: ObjectTarget): Promise<FastifyReply> {
  const { options, reply, visitor } = call
  if ((options.appendOnly || visitor.appendOnly) && object.folder !== 'locks') {
    throw new Failure({
      code: 'append_only',
      message: `Only locks may be deleted here: ${options.appendOnly ? 'the vault' : visitor.user} is append-only`,
      hint: 'Forget and prune with a password or token that may delete, or where the vault runs.',
    })
  }
  await options.usage.settled(visitor.user)
  const bytes = await options.files.remove(place, object)
  if (bytes === undefined) throw objectMissing(object)
  options.usage.freed(visitor.user, bytes)
  options.metrics.deleted.add({ user: visitor.user, folder: object.folder })
  return reply.code(200).send()
}

function objectMissing({ folder, name }: ObjectAt): Failure {
  const what = folder === 'config' ? 'config' : `${folder}/${name}`
  return new Failure({ code: 'object_missing', message: `There is no ${what}` })
}

function tooLarge({ folder }: ObjectAt, bytesMax: number): Failure {
  const message = `No object of ${folder} may have more than ${bytesMax} bytes`
  return new Failure({ code: 'request_too_large', message })
}

function methodRefused({ method }: FastifyRequest, allowed: string): Failure {
  return new Failure({ code: 'method_refused', message: `${method} has no meaning here; there is ${allowed}` })
}

function routeAbsent({ method, url }: FastifyRequest): Failure {
  const message = `There is no ${method} ${url.slice(0, 200)}`
  return new Failure({ code: 'route_absent', message, hint: 'Repositories are at /USER/ and below it.' })
}

interface Refusal {
  readonly request: FastifyRequest
  readonly reply: FastifyReply
  readonly error: unknown
}

async function refuse(options: VaultAppOptions, { request, reply, error }: Refusal): Promise<void> {
  const report = describeFailure(knownFailure(error))
  const status = statusByCode[report.code] ?? 500
  const { log, metrics } = options
  if (isFailure(error, 'unauthenticated')) {
    metrics.refusedLogins.add({})
    log({ level: 'warn', message: `A login from ${request.ip} was refused: ${report.message}` })
  }
  if (status >= 500) {
    const { method, url } = request
    log({
      level: status === 507 ? 'warn' : 'error',
      message: `${method} ${url.slice(0, 300)} failed: ${report.message}`,
      error,
    })
  }
  if (!(await lingered(request.raw, options.clock))) reply.header('connection', 'close')
  if (status === 401) reply.header('www-authenticate', 'Basic realm="stillpoint vault", charset="UTF-8"')
  // Stock restic shows nothing else of a refusal.
  reply.raw.statusMessage = report.message.replace(/[^\x20-\x7e]/g, '?').slice(0, 200)
  reply.raw.removeHeader('content-length')
  reply.code(status).removeHeader('content-length').type('application/json; charset=utf-8').send(JSON.stringify(report))
}

/** Node's and Fastify's own refusals of requests that are none. */
function knownFailure(error: unknown): unknown {
  if (error instanceof Failure) return error
  const status = error instanceof Error && 'statusCode' in error ? error.statusCode : undefined
  if (!(error instanceof Error) || typeof status !== 'number' || status >= 500) return error
  const code = status === 413 ? 'request_too_large' : 'request_invalid'
  return new Failure({ code, message: error.message, cause: error })
}

/** Reads on for a while, and throws away. Whether the request was read to its end. */
async function lingered(raw: IncomingMessage, clock: Clock): Promise<boolean> {
  if (raw.complete || raw.destroyed) return true
  return new Promise((resolve) => {
    let bytes = 0
    const done = () => {
      cancel()
      raw.off('data', onData).off('end', done).off('close', done).off('error', done)
      raw.pause()
      resolve(raw.complete)
    }
    const onData = (piece: Buffer) => {
      bytes += piece.length
      if (bytes > lingerBytesMax) done()
    }
    const cancel = clock.after(lingerMs, done)
    raw.on('data', onData).on('end', done).on('close', done).on('error', done)
  })
}
