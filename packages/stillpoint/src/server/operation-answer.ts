/**
 * Runs an operation for a request, and answers as the request's `accept` asks: the result alone, or a stream of what
 * happens that ends with the result or the failure. When the reader goes, the operation is cancelled.
 */
import { type Clock, describeFailure, Failure } from '@stillpoint/core/kernel'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { OperationContext, OperationEvent } from '../coordinator/operations.ts'
import { type AnswerStream, openAnswerStream, streamFormat } from './answer-stream.ts'
import type { OperationLine } from './api-schema.ts'
import { failureStatus } from './failure-status.ts'
import type { OperationKind } from './live-events.ts'
import type { Log } from './ports.ts'
import type { RunningOperations } from './running-operations.ts'

export interface OperationAnswering {
  readonly clock: Clock
  readonly running: RunningOperations
  readonly aliveMs: number
  readonly log: Log
}

const waitingMax = 10_000

export async function answerOperation(
  { clock, running, aliveMs, log }: OperationAnswering,
  exchange: { readonly request: FastifyRequest; readonly reply: FastifyReply },
  kind: OperationKind,
  work: (context: OperationContext) => Promise<unknown>,
): Promise<unknown> {
  const { request, reply } = exchange
  const gone = new AbortController()
  const onClosed = () => gone.abort(readerGone(kind))
  const format = streamFormat(request.headers.accept)
  const start = { kind, startedBy: 'request', signal: gone.signal } as const
  if (format === undefined) {
    const onClose = () => {
      if (!reply.raw.writableFinished) onClosed()
    }
    reply.raw.once('close', onClose)
    return await running.run({ ...start, onEvent: () => {} }, work)
  }
  reply.hijack()
  const stream = openAnswerStream(reply.raw, { format, clock, aliveMs, waitingMax, onClosed })
  try {
    const result = await running.run({ ...start, onEvent: (event) => writeEvent(stream, event) }, work)
    writeLine(stream, { type: 'result', result })
  } catch (error) {
    const failure = describeFailure(error)
    if (!(error instanceof Failure)) log({ level: 'error', message: `${kind} failed: ${failure.message}`, error })
    writeLine(stream, { type: 'failure', failure })
  } finally {
    stream.end()
  }
  return reply
}

function writeEvent(stream: AnswerStream, event: OperationEvent): void {
  const line: OperationLine = { type: 'event', event }
  const item = { name: 'event', data: line }
  stream.write(event.type === 'progress' ? { ...item, replaces: `progress of ${event.participant}` } : item)
}

function writeLine(stream: AnswerStream, line: OperationLine): void {
  stream.write({ name: line.type, data: line })
}

function readerGone(kind: OperationKind): Failure {
  return new Failure({
    code: 'operation_cancelled',
    message: `Whoever asked for "${kind}" is gone: the operation was cancelled`,
    retry: 'later',
  })
}

/** Answers a failure, as every route does. */
export function sendFailure(reply: FastifyReply, error: unknown): FastifyReply {
  const failure = describeFailure(error)
  return reply.code(failureStatus(failure)).type('application/json').send(failure)
}
