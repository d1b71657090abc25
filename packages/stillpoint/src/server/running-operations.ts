/**
 * The operations that are under way on this server, whoever asked for them.
 *
 * Owns: their numbering, their signal (of the caller and of the server's end), and the news about them.
 * Does not own: which of them exclude each other. The catalog's lock does, also against other programs.
 */
import { describeFailure, Failure } from '@stillpoint/core/kernel'
import type { OperationContext, OperationEvent } from '../coordinator/operations.ts'
import type { LiveEvents, OperationKind } from './live-events.ts'

export interface OperationStart {
  readonly kind: OperationKind
  readonly startedBy: 'request' | 'schedule'
  /** Ends with whoever asked for it. */
  readonly signal: AbortSignal
  readonly onEvent: (event: OperationEvent) => void
}

export interface RunningOperations {
  /**
   * Runs it and answers what it answers.
   * @throws Failure `server_stopping` when the server ends, before or meanwhile
   */
  run<T>(start: OperationStart, work: (context: OperationContext) => Promise<T>): Promise<T>
  /** Cancels all, lets no more begin, and answers when all have ended. */
  stop(): Promise<void>
}

export function serverStopping(): Failure {
  return new Failure({
    code: 'server_stopping',
    message: 'The server is being stopped',
    hint: 'Start it again with: stillpoint up',
    retry: 'later',
  })
}

export function createRunningOperations(events: LiveEvents): RunningOperations {
  const running = new Set<Promise<unknown>>()
  const end = new AbortController()
  let last = 0
  return {
    async run(start, work) {
      end.signal.throwIfAborted()
      last += 1
      const operation = `op-${last}`
      const signal = AbortSignal.any([start.signal, end.signal])
      const { kind, startedBy } = start
      // To read is not news.
      const isNews = kind === 'take' || kind === 'restore' || kind === 'remove' || kind === 'verify'
      const publish: LiveEvents['publish'] = (event) => {
        if (isNews) events.publish(event)
      }
      publish({ type: 'operationStarted', operation, kind, startedBy })
      const onEvent = (event: OperationEvent) => {
        start.onEvent(event)
        publish({ type: 'operationEvent', operation, event })
      }
      // In a function of its own, so that a throw before the first await is one of the promise too.
      const ended = (async () => work({ signal, onEvent }))()
      running.add(ended)
      try {
        const result = await ended
        publish({ type: 'operationSucceeded', operation, snapshot: kind === 'take' ? idOf(result) : null })
        return result
      } catch (error) {
        publish({ type: 'operationFailed', operation, failure: describeFailure(error) })
        throw error
      } finally {
        running.delete(ended)
      }
    },
    async stop() {
      end.abort(serverStopping())
      // Their failures go to those who asked for them.
      await Promise.allSettled(running)
    },
  }
}

function idOf(result: unknown): string | null {
  if (typeof result !== 'object' || result === null || !('id' in result)) return null
  return typeof result.id === 'string' ? result.id : null
}
