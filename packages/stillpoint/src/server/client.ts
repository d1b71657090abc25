/**
 * The operations over a server's API: what a command uses when a server runs.
 *
 * Owns: the wire. Does not own: finding the server (find-server.ts).
 *
 * Invariants:
 * - An operation ends when its signal does: the request is closed, and the server cancels what it does for it.
 * - Failures arrive with their code, hint and retry. A server that is gone before it answered is a failure of its own,
 *   which says that the outcome is not known.
 * - What the server sends is checked like everything from outside.
 */
import { type Clock, describeFailure, Failure, failureFrom, isFailure } from '@stillpoint/core/kernel'
import type { z } from 'zod'
import type { OperationContext, Operations } from '../coordinator/operations.ts'
import {
  diffResultSchema,
  failureSchema,
  operationLineSchema,
  removeResultSchema,
  restoreResultSchema,
  snapshotDetailSchema,
  snapshotListSchema,
  systemStatusSchema,
  verifyResultSchema,
} from './api-schema.ts'

export { type FoundServer, findServer } from './find-server.ts'

export interface ConnectOptions {
  readonly url: string
  readonly token: string
  readonly clock: Clock
  /** A server says something at least every 5 seconds; one that is silent for so long is given up. */
  readonly silenceMs?: number
}

interface Call<T> {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: string
  readonly body?: unknown
  readonly answer: z.ZodType<T>
}

const defaultSilenceMs = 30_000
/** A certificate lists every message in flight; more than this is no answer of ours. */
const lineCharsMax = 256 * 1024 * 1024
const failureCharsMax = 1024 * 1024

export function connectOperations(options: ConnectOptions): Operations {
  const closed = new AbortController()
  const run = <T>(call: Call<T>, context: OperationContext) => request(call, context, options, closed.signal)
  const snapshotPath = (id: string) => `/v1/snapshots/${encodeURIComponent(id)}`
  return {
    status: (context) => run({ method: 'GET', path: '/v1/status', answer: systemStatusSchema }, context),
    take: (body, context) =>
      run({ method: 'POST', path: '/v1/snapshots', body, answer: snapshotDetailSchema }, context),
    list: (context) => run({ method: 'GET', path: '/v1/snapshots', answer: snapshotListSchema }, context),
    show: (id, context) => run({ method: 'GET', path: snapshotPath(id), answer: snapshotDetailSchema }, context),
    verify: (id, context) =>
      run({ method: 'POST', path: `${snapshotPath(id)}/verify`, answer: verifyResultSchema }, context),
    diff: (from, to, context) =>
      run(
        { method: 'GET', path: `${snapshotPath(from)}/diff/${encodeURIComponent(to)}`, answer: diffResultSchema },
        context,
      ),
    restore: (body, context) =>
      run({ method: 'POST', path: '/v1/restores', body, answer: restoreResultSchema }, context),
    remove: (id, context) => run({ method: 'DELETE', path: snapshotPath(id), answer: removeResultSchema }, context),
    async close() {
      closed.abort(new Failure({ code: 'operation_cancelled', message: 'The connection to the server was closed' }))
    },
  }
}

async function request<T>(
  call: Call<T>,
  context: OperationContext,
  { url, token, clock, silenceMs = defaultSilenceMs }: ConnectOptions,
  closed: AbortSignal,
): Promise<T> {
  const outer = AbortSignal.any([context.signal, closed])
  outer.throwIfAborted()
  const ended = new AbortController()
  const silence = () => ended.abort(silent(url, silenceMs))
  let stop = clock.after(silenceMs, silence)
  const onHeard = () => {
    stop()
    stop = clock.after(silenceMs, silence)
  }
  try {
    const signal = AbortSignal.any([outer, ended.signal])
    const response = await fetch(new URL(call.path, url), {
      method: call.method,
      headers: {
        authorization: `Bearer ${token}`,
        accept: 'application/x-ndjson',
        ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
      redirect: 'error',
      signal,
    })
    if (response.status !== 200) throw await failureIn(response, url)
    const type = response.headers.get('content-type') ?? 'none'
    if (!type.startsWith('application/x-ndjson')) throw invalidAnswer(url, `of type ${type.slice(0, 100)}`)
    return await resultIn(response, { call, context, url, onHeard })
  } catch (error) {
    outer.throwIfAborted()
    ended.signal.throwIfAborted()
    if (isFailure(error)) throw error
    throw isNetworkError(error) ? unreachable(url, error) : error
  } finally {
    stop()
    // Whatever is left of the request ends with it; after a whole answer nothing is left.
    ended.abort()
  }
}

interface Reading<T> {
  readonly call: Call<T>
  readonly context: OperationContext
  readonly url: string
  readonly onHeard: () => void
}

async function resultIn<T>(response: Response, { call, context, url, onHeard }: Reading<T>): Promise<T> {
  for await (const text of linesOf(response, url, onHeard)) {
    const line = parsed(operationLineSchema, text, url)
    switch (line.type) {
      case 'alive':
        break
      case 'event':
        context.onEvent(line.event)
        break
      case 'failure':
        throw failureFrom(line.failure)
      case 'result': {
        const result = call.answer.safeParse(line.result)
        if (result.success) return result.data
        throw invalidAnswer(url, `${call.method} ${call.path}: ${result.error.message.slice(0, 500)}`)
      }
    }
  }
  throw lost(url)
}

async function* linesOf(response: Response, url: string, onHeard: () => void): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  // Pieces of one line, put together once: a long line in many chunks must not cost the square of its length.
  let pieces: string[] = []
  let length = 0
  try {
    for await (const chunk of response.body ?? []) {
      onHeard()
      const [first = '', ...rest] = decoder.decode(chunk, { stream: true }).split('\n')
      pieces.push(first)
      length += first.length
      for (const next of rest) {
        yield pieces.join('')
        pieces = [next]
        length = next.length
      }
      if (length > lineCharsMax) throw invalidAnswer(url, 'a line without an end')
    }
  } catch (error) {
    if (isNetworkError(error)) throw lost(url, error)
    throw error
  }
}

async function failureIn(response: Response, url: string): Promise<Failure> {
  const text = (await response.text()).slice(0, failureCharsMax)
  try {
    return failureFrom(failureSchema.parse(JSON.parse(text)))
  } catch (error) {
    return invalidAnswer(url, `status ${response.status}, ${describeFailure(error).message.slice(0, 200)}`)
  }
}

function parsed<T>(schema: z.ZodType<T>, text: string, url: string): T {
  try {
    return schema.parse(JSON.parse(text))
  } catch (error) {
    throw invalidAnswer(url, describeFailure(error).message.slice(0, 500))
  }
}

/** What fetch throws when the other side is not there, or not any more. */
function isNetworkError(error: unknown): boolean {
  return error instanceof TypeError && ['fetch failed', 'terminated'].includes(error.message)
}

function unreachable(url: string, cause: unknown): Failure {
  const inner = cause instanceof Error && cause.cause instanceof Error ? `: ${cause.cause.message}` : ''
  return new Failure({
    code: 'server_unreachable',
    message: `The server at ${url} does not answer${inner}`,
    hint: 'Start it with: stillpoint up',
    retry: 'later',
    cause,
  })
}

function lost(url: string, cause?: unknown): Failure {
  return new Failure({
    code: 'server_lost',
    message: `The server at ${url} was gone before it had answered; how the operation ended is not known`,
    hint: 'Run "stillpoint list" to see what there is. Holds end by themselves, at their leases.',
    retry: 'later',
    ...(cause === undefined ? {} : { cause }),
  })
}

function silent(url: string, silenceMs: number): Failure {
  return new Failure({
    code: 'server_silent',
    message: `The server at ${url} has said nothing for ${silenceMs / 1_000} s`,
    hint: 'See whether its machine is overloaded or it has been stopped (SIGSTOP).',
    retry: 'later',
  })
}

function invalidAnswer(url: string, what: string): Failure {
  return new Failure({
    code: 'server_answer_invalid',
    message: `The server at ${url} gave an answer that is none: ${what}`,
    hint: 'Command and server must be of the same version.',
  })
}
