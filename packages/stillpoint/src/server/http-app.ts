/**
 * The HTTP side of the server: every route behind the checks of who asks, every failure as a `FailureReport`.
 *
 * Owns: the checks, the errors, `/healthz`, `/v1/events`, the upgrade of `/v1/session`.
 * Does not own: the operations (api-routes.ts), the transfers (transfer-routes.ts), the sessions (sessions.ts).
 */
import type { IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import type { Duplex } from 'node:stream'
import { type Clock, describeFailure, Failure } from '@stillpoint/core/kernel'
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify'
import { WebSocketServer } from 'ws'
import { z } from 'zod'
import { type AnswerStream, openAnswerStream, streamFormat } from './answer-stream.ts'
import { apiRoutes, checked } from './api-routes.ts'
import { failureStatus } from './failure-status.ts'
import type { LiveEvents } from './live-events.ts'
import { openApiDocument } from './openapi.ts'
import { answerOperation, sendFailure } from './operation-answer.ts'
import type { Log, ServedSystem } from './ports.ts'
import { createRequestGuard } from './request-guard.ts'
import { type RunningOperations, serverStopping } from './running-operations.ts'
import type { Sessions } from './sessions.ts'
import { challengePattern, proofOfToken } from './token.ts'
import { transferRoutes } from './transfer-routes.ts'

export interface HttpAppOptions {
  readonly listenHost: string
  readonly token: string
  readonly system: () => ServedSystem
  readonly sessions: Sessions
  readonly running: RunningOperations
  readonly events: LiveEvents
  readonly clock: Clock
  readonly log: Log
  readonly frameBytesMax: number
  readonly aliveMs: number
}

export interface HttpApp {
  readonly app: FastifyInstance
  /** From now on only `/healthz` answers, and says so. Live events end. */
  stop(): void
}

const bodyBytesMax = 1024 * 1024
const healthPath = '/healthz'
const sessionPath = '/v1/session'
const eventsWaitingMax = 5_000

export function createHttpApp(options: HttpAppOptions): HttpApp {
  const { token, clock, log, sessions } = options
  const guard = createRequestGuard(options.listenHost, token)
  const streams = new Set<AnswerStream>()
  let stopping = false

  const app = fastify({
    bodyLimit: bodyBytesMax,
    exposeHeadRoutes: false,
    return503OnClosing: false,
    // Two participants, an arrow and a label, each byte of which may be written as three.
    routerOptions: { maxParamLength: 1_024 },
    // Long uploads and operations are normal; slow headers are not (node's own limit of 60 s holds).
    requestTimeout: 0,
    frameworkErrors: (error, _request, reply) => answerError(error, reply, log),
  })
  app.setErrorHandler((error, _request, reply) => answerError(error, reply, log))
  app.setNotFoundHandler((request, reply) => {
    const place = `${request.method} ${request.url.split('?', 1)[0]?.slice(0, 200)}`
    sendFailure(
      reply,
      new Failure({ code: 'route_absent', message: `There is no ${place}`, hint: 'GET /v1/openapi.json' }),
    )
  })
  app.addHook('onRequest', async (request) => {
    const wrong = guard.checkOrigin(request.headers)
    if (wrong !== undefined) throw wrong
    if (request.routeOptions.url === healthPath) return
    const unknown = guard.checkToken(request.headers)
    if (unknown !== undefined) throw unknown
    if (stopping) throw serverStopping()
  })

  app.get(healthPath, async (request) => {
    const { challenge } = checked(healthQuery, request.query, 'the query')
    const status = stopping ? 'stopping' : 'ok'
    return challenge === undefined ? { status } : { status, proof: proofOfToken(token, challenge) }
  })
  app.get('/v1/openapi.json', async () => openApiDocument())
  addEvents(app, options, streams)
  addOperations(app, options)
  app.register(transferRoutes({ sessions, system: options.system, clock }))
  addSessions(app, options, guard)

  return {
    app,
    stop() {
      stopping = true
      for (const stream of streams) stream.end()
      streams.clear()
    },
  }
}

/** Live events: a stream until its reader goes, or the server ends. */
function addEvents(app: FastifyInstance, { events, clock, aliveMs }: HttpAppOptions, streams: Set<AnswerStream>): void {
  app.get('/v1/events', (request, reply) => {
    const afterId = lastEventId(request)
    const format = streamFormat(request.headers.accept) ?? 'sse'
    reply.hijack()
    const stream = openAnswerStream(reply.raw, {
      format,
      clock,
      aliveMs: aliveMs,
      waitingMax: eventsWaitingMax,
      onClosed: () => {
        unwatch()
        streams.delete(stream)
      },
    })
    streams.add(stream)
    const unwatch = events.watch(afterId, (event) => {
      const item = { name: event.event.type, id: event.id, data: event }
      const progress = event.event.type === 'operationEvent' && event.event.event.type === 'progress'
      stream.write(progress ? { ...item, replaces: progressKey(event.event) } : item)
    })
  })
}

function addOperations(app: FastifyInstance, options: HttpAppOptions): void {
  for (const route of apiRoutes) {
    app.route({
      method: route.method,
      url: route.path,
      async handler(request, reply) {
        const { params, body } = request
        const work = route.prepare({ params, body, isLocal: isLoopback(request.ip) })
        return await answerOperation(options, { request, reply }, route.kind, (context) =>
          work(options.system().operations, context),
        )
      },
    })
  }
}

/** The upgrade to a WebSocket: no route of Fastify's, but behind the same checks. */
function addSessions(
  app: FastifyInstance,
  options: HttpAppOptions,
  guard: ReturnType<typeof createRequestGuard>,
): void {
  const { sessions, frameBytesMax, log } = options
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: frameBytesMax,
    perMessageDeflate: false,
    clientTracking: false,
  })
  app.server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    // Until a WebSocket takes over, an error here has no other listener, and would end the process.
    const onError = (error: Error) => log({ level: 'info', message: `An upgrade was cut off: ${error.message}` })
    socket.on('error', onError)
    const { headers, url = '' } = request
    const path = url.split('?', 1)[0]
    const absent = new Failure({ code: 'route_absent', message: `There is no WebSocket at ${path?.slice(0, 200)}` })
    const wrong = guard.checkOrigin(headers) ?? guard.checkToken(headers) ?? (path === sessionPath ? undefined : absent)
    if (wrong !== undefined) return refuseUpgrade(socket, wrong)
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      socket.off('error', onError)
      sessions.accept(webSocket, `http://${headers.host}`)
    })
  })
}

function refuseUpgrade(socket: Duplex, failure: Failure): void {
  const report = describeFailure(failure)
  const body = JSON.stringify(report)
  const head = [
    `HTTP/1.1 ${failureStatus(report)} Refused`,
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy())
}

const healthQuery = z.object({
  challenge: z.string().regex(challengePattern, { error: 'must be 32 to 128 hexadecimal digits' }).optional(),
})

function progressKey(event: unknown): string {
  return JSON.stringify(z.object({ operation: z.string(), event: z.object({ participant: z.string() }) }).parse(event))
}

function lastEventId(request: FastifyRequest): number | null {
  const header = request.headers['last-event-id']
  if (typeof header !== 'string' || !/^\d{1,15}$/.test(header)) return null
  return Number(header)
}

function isLoopback(address: string): boolean {
  const plain = address.replace(/^::ffff:/i, '')
  return plain === '::1' || (isIP(plain) === 4 && plain.startsWith('127.'))
}

function answerError(error: unknown, reply: FastifyReply, log: Log): void {
  const status = error instanceof Error && 'statusCode' in error ? error.statusCode : undefined
  if (error instanceof Failure) sendFailure(reply, error)
  else if (error instanceof Error && typeof status === 'number' && status < 500) {
    const code = status === 413 ? 'request_too_large' : status === 415 ? 'media_type_unsupported' : 'request_invalid'
    sendFailure(reply, new Failure({ code, message: error.message, cause: error }))
  } else {
    log({ level: 'error', message: `A request failed: ${describeFailure(error).message}`, error })
    sendFailure(reply, error)
  }
}
