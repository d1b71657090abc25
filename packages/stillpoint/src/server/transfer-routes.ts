/**
 * The bulk data of processes by HTTP: what they upload for a running cut, what they read back at a restore. Below
 * `/s/{session}`, the `agentUrl` of the welcome, so that an upload of an older incarnation finds no session (C8).
 *
 * Invariants:
 * - Nothing is kept: bytes pass from the socket to the agent as fast as the agent takes them, and back.
 * - Names are checked before anything is read. A transfer ends, with an error, when its session or its cut does.
 */
import { Readable } from 'node:stream'
import {
  type ChannelId,
  type Clock,
  type CutId,
  channelEnds,
  channelId,
  Failure,
  isFailure,
  type ParticipantName,
  participantName,
} from '@stillpoint/core/kernel'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { checked } from './api-routes.ts'
import type { ByteStream, ServedSystem } from './ports.ts'
import type { Sessions } from './sessions.ts'

export interface TransferOptions {
  readonly sessions: Sessions
  readonly system: () => Pick<ServedSystem, 'captures' | 'restores'>
  readonly clock: Clock
}

/** How long the rest of a refused upload is read and thrown away, so that its sender reads why. */
const lingerMs = 3_000

const id = z.string().regex(/^[\w.:-]{1,128}$/, { error: 'must be an id' })
const base = { session: z.string().regex(/^[0-9a-f]{32}$/, { error: 'must be a session' }), participant: z.string() }
const captureParams = z.object({ ...base, cut: id })
const restoreParams = z.object({ ...base, restore: id })
const partParams = z.object({ part: z.string() })
const channelParams = z.object({ channel: z.string() })

export function transferRoutes({ sessions, system, clock }: TransferOptions) {
  return async (app: FastifyInstance): Promise<void> => {
    app.removeAllContentTypeParsers()
    // Bodies are streams: nothing is read before a route does.
    app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))

    function captureOf(request: FastifyRequest) {
      const { session, participant, cut } = checked(captureParams, request.params, 'the path')
      const name = participantName(participant)
      return { name, cut: cut as CutId, signal: sessions.uploadSignal(session, name, cut) }
    }

    function restoreOf(request: FastifyRequest) {
      const { session, participant, restore } = checked(restoreParams, request.params, 'the path')
      const name = participantName(participant)
      return { name, restore, signal: sessions.restoreSignal(session, name, restore) }
    }

    const captures = '/s/:session/v1/captures/:cut/:participant'
    app.put(`${captures}/state/:part`, async (request) => {
      const part = partOf(request)
      const { name, cut, signal } = captureOf(request)
      return await upload(request, signal, clock, (stream) => system().captures.putState(cut, name, part, stream))
    })
    app.put(`${captures}/channels/:channel`, async (request) => {
      const channel = channelOf(request, 'to')
      const { name, cut, signal } = captureOf(request)
      return await upload(request, signal, clock, (stream) => system().captures.putChannel(cut, name, channel, stream))
    })
    app.post(`${captures}/finish`, async (request) => {
      const { name, cut } = captureOf(request)
      return await system().captures.finish(cut, name)
    })

    const restores = '/s/:session/v1/restores/:restore/:participant'
    app.get(restores, async (request) => {
      const { name, restore } = restoreOf(request)
      return await system().restores.contents(restore, name)
    })
    app.get(`${restores}/state/:part`, async (request, reply) => {
      const part = partOf(request)
      const { name, restore, signal } = restoreOf(request)
      const stream = await system().restores.readState(restore, name, part)
      return reply.type('application/octet-stream').send(download(stream, signal))
    })
    app.get(`${restores}/channels/:channel`, async (request, reply) => {
      const channel = channelOf(request, 'to')
      const { name, restore, signal } = restoreOf(request)
      const stream = await system().restores.readChannel(restore, name, channel)
      return reply.type('application/x-ndjson').send(download(stream, signal))
    })
  }
}

/** Parts become file names in the snapshot: the rule for names holds for them too. */
function partOf(request: FastifyRequest): string {
  return participantName(checked(partParams, request.params, 'the path').part)
}

/** A channel's state belongs to its receiver. @throws Failure `name_invalid` */
function channelOf(request: FastifyRequest, receiver: 'to'): ChannelId {
  const { channel } = checked(channelParams, request.params, 'the path')
  const ends = channelEnds(channel as ChannelId)
  const { participant } = checked(z.object(base), request.params, 'the path')
  // Made again from its parts: a label is checked by that, and no second spelling of a channel comes through.
  const made = channelId(ends.from, ends.to, ends.label)
  if (made === channel && ends[receiver] === (participant as ParticipantName)) return made
  throw new Failure({
    code: 'name_invalid',
    message: `${JSON.stringify(channel.slice(0, 200))} is not a channel to ${JSON.stringify(participant.slice(0, 64))}`,
  })
}

async function upload<T>(
  request: FastifyRequest,
  signal: AbortSignal,
  clock: Clock,
  store: (stream: ByteStream) => Promise<T>,
): Promise<T> {
  const encoding = request.headers['content-encoding'] ?? 'identity'
  if (encoding !== 'identity') {
    throw new Failure({
      code: 'media_type_unsupported',
      message: `Uploads are taken as they are, not with content-encoding ${JSON.stringify(encoding.slice(0, 40))}`,
    })
  }
  try {
    const stored = await store(bodyOf(request, signal))
    signal.throwIfAborted()
    return stored
  } finally {
    discardRest(request, clock)
  }
}

/** The body as it comes in. It throws when it does not come in whole, or when what it is for is over. */
async function* bodyOf({ raw }: FastifyRequest, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  signal.throwIfAborted()
  const onAbort = () => raw.destroy()
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    // Not destroyed when the reader stops early: the sender is to be told why.
    for await (const chunk of raw.iterator({ destroyOnReturn: false })) yield chunk
    if (!raw.complete) throw new Error('the body ended early')
  } catch (cause) {
    signal.throwIfAborted()
    if (isFailure(cause)) throw cause
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new Failure({ code: 'upload_cut_off', message: `The upload was cut off: ${why}`, retry: 'later', cause })
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/** A sender that is stopped by backpressure in the middle of its body would never read the answer. */
function discardRest({ raw }: FastifyRequest, clock: Clock): void {
  if (raw.complete || raw.destroyed) return
  raw.resume()
  const stop = clock.after(lingerMs, () => raw.destroy())
  raw.once('close', stop)
}

/** When the source throws, the connection is cut: the reader sees that the body is not whole. */
function download(stream: ByteStream, signal: AbortSignal): Readable {
  const readable = Readable.from(stream, { objectMode: false })
  const onAbort = () => readable.destroy(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  readable.once('close', () => signal.removeEventListener('abort', onAbort))
  return readable
}
