/**
 * The SDK in front of a Fastify server, as a plugin. Fastify itself is not imported: the few things that are used are
 * described here, and are the same in Fastify 4 and 5.
 *
 * The request waits in `preParsing`, so `onRequest` hooks run before the gate: they must not change any state.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { Failure } from '@stillpoint/core/kernel'
import { runAs, type Work } from '../gate/work-context.ts'
import type { HttpServerSide } from './http-server.ts'

type Done = (error?: Error | null, payload?: Readable) => void

interface FastifyLikeRequest {
  readonly raw: IncomingMessage
}

interface FastifyLikeReply {
  readonly raw: ServerResponse
  hijack(): unknown
}

interface FastifyLike {
  readonly server: unknown
  addHook(
    name: 'preParsing',
    hook: (request: FastifyLikeRequest, reply: FastifyLikeReply, payload: Readable, done: Done) => void,
  ): unknown
  addHook(
    name: 'preValidation',
    hook: (request: FastifyLikeRequest, reply: FastifyLikeReply, done: Done) => void,
  ): unknown
}

/** What Fastify's `register` takes. The instance is looked at when it comes. */
export type FastifyPluginLike = (instance: unknown, options: unknown, done: (error?: Error) => void) => void

export function fastifyPlugin(options: {
  readonly server: HttpServerSide
  readonly transactional: boolean
  /** Learns the server to which replays go. */
  readonly found: (server: Pick<Server, 'emit'>) => void
}): FastifyPluginLike {
  const { server, transactional, found } = options
  const works = new WeakMap<IncomingMessage, Work>()

  function preParsing(request: FastifyLikeRequest, reply: FastifyLikeReply, payload: Readable, done: Done): void {
    server.admit(request.raw, reply.raw, { transactional, body: payload }).then(
      (admission) => {
        if (admission.kind === 'answered') {
          reply.hijack()
          return
        }
        const { work, body } = admission
        works.set(request.raw, work)
        // Fastify replies when its handler has ended, so the end of the reply is the end of the work.
        admission.reply.handlerReturned()
        runAs(work, () => (body === null ? done(null, payload) : done(null, streamOf(body))))
      },
      (error) => done(error instanceof Error ? error : new Error(String(error))),
    )
  }

  const plugin: FastifyPluginLike = (instance, _options, done) => {
    if (!isFastifyLike(instance)) {
      const message = 'fastify() is a plugin: what it was registered with has no addHook'
      done(new Failure({ code: 'options_invalid', message, hint: 'Write `app.register(participant.fastify())`.' }))
      return
    }
    instance.addHook('preParsing', preParsing)
    // Parsers of bodies may lose the context; here it is taken up again, for handlers and all later hooks.
    instance.addHook('preValidation', (request, _reply, next) => {
      const work = works.get(request.raw)
      if (work === undefined) next()
      else runAs(work, () => next())
    })
    if (isEmitter(instance.server)) found(instance.server)
    done()
  }
  // Fastify's own mark for a plugin whose hooks are for all routes, not only for those registered within it.
  return Object.assign(plugin, { [Symbol.for('skip-override')]: true })
}

function streamOf(body: Buffer): Readable {
  // Fastify compares it with `content-length`.
  return Object.assign(Readable.from([body], { objectMode: false }), { receivedEncodedLength: body.length })
}

function isFastifyLike(value: unknown): value is FastifyLike {
  return typeof value === 'object' && value !== null && 'addHook' in value && 'server' in value
}

function isEmitter(value: unknown): value is Pick<Server, 'emit'> {
  return typeof value === 'object' && value !== null && 'emit' in value && typeof value.emit === 'function'
}
