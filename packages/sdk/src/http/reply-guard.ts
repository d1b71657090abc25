/**
 * Stands between an application and its `ServerResponse`: nothing of a reply leaves before it has its stamp. Where the
 * gate is open the stamp is there at once, and every call goes straight through.
 *
 * Invariant G1: calls reach the real response in their order.
 */
import type { ServerResponse } from 'node:http'

export type ReplyAnswer =
  | { readonly kind: 'plain' }
  | { readonly kind: 'stamped'; readonly headers: Readonly<Record<string, string>> }
  /** The reply is of a state that was replaced: the caller gets these headers and an empty answer with status 409. */
  | { readonly kind: 'refused'; readonly headers: Readonly<Record<string, string>> }

export interface ReplyGuard {
  /** The application's handler has returned; its work ends once the reply has ended, too. */
  handlerReturned(): void
  /** Nothing will be replied. */
  abandon(): void
}

export function guardReply(
  response: ServerResponse,
  on: {
    /** Asks for the stamp, once, when the application begins to reply. Answers at once or later. */
    readonly ask: (answer: (answer: ReplyAnswer) => void) => void
    /** The handler has returned, and the reply has ended or never will. Called once. */
    readonly end: () => void
    /** The connection broke after the reply had begun. */
    readonly lost: () => void
  },
): ReplyGuard {
  const { end, lost } = on
  const queue: (() => void)[] = []
  let state: 'idle' | 'asked' | 'open' | 'refused' = 'idle'
  let hasReturned = false
  let hasEnded = false
  let isOver = false

  function settle(): void {
    if (isOver || !hasReturned || !hasEnded) return
    isOver = true
    end()
  }

  function answered(answer: ReplyAnswer): void {
    if (answer.kind === 'refused') {
      state = 'refused'
      queue.length = 0
      if (!response.destroyed) {
        for (const name of response.getHeaderNames()) response.removeHeader(name)
        originals.writeHead(409, answer.headers)
        originals.end()
      }
      return
    }
    state = 'open'
    if (answer.kind === 'stamped' && !response.headersSent) {
      for (const [name, value] of Object.entries(answer.headers)) response.setHeader(name, value)
    }
    for (const call of queue.splice(0)) call()
  }

  /** Runs the call now, or when the stamp is there. `waiting` is what the application is told meanwhile. */
  function through<T>(call: () => T, waiting: T): T {
    if (state === 'idle') {
      state = 'asked'
      on.ask(answered)
    }
    if (state === 'open') return call()
    if (state === 'asked') queue.push(call)
    return waiting
  }

  // The response's own methods, with whatever arguments they take.
  const original = (name: 'writeHead' | 'write' | 'end' | 'flushHeaders') => {
    const method = response[name]
    return (...values: readonly unknown[]): unknown => Reflect.apply(method, response, values)
  }
  const originals = {
    writeHead: original('writeHead'),
    write: original('write'),
    end: original('end'),
    flushHeaders: original('flushHeaders'),
  }

  const overrides = {
    writeHead: (...values: readonly unknown[]) => through(() => originals.writeHead(...values), response),
    flushHeaders: () => through(originals.flushHeaders, undefined),
    write: (...values: readonly unknown[]) => {
      const isWaiting = state !== 'open'
      return through(() => {
        const hasRoom = originals.write(...values)
        if (isWaiting && hasRoom === true) queueMicrotask(() => response.emit('drain'))
        return hasRoom
      }, false)
    },
    end: (...values: readonly unknown[]) => {
      hasEnded = true
      const answer = through(() => originals.end(...values), response)
      settle()
      return answer
    },
  }
  for (const [name, value] of Object.entries(overrides)) {
    Object.defineProperty(response, name, { value, configurable: true, writable: true })
  }

  response.once('close', () => {
    if (!response.writableFinished && state === 'open') lost()
    hasEnded = true
    settle()
  })

  return {
    handlerReturned() {
      hasReturned = true
      settle()
    },
    abandon() {
      hasReturned = true
      hasEnded = true
      settle()
    },
  }
}
