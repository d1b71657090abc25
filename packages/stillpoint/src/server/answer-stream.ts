/**
 * A response that goes on: lines of JSON (`application/x-ndjson`) or server-sent events (`text/event-stream`).
 *
 * Invariants:
 * - What one reader does not take is bounded: of progress, only the latest per participant waits; of the rest, at most
 *   `waitingMax` items, and a reader that leaves more is cut off.
 * - `onClosed` is called once when the reader is gone before the end, and not when the answer has ended.
 */
import type { ServerResponse } from 'node:http'
import type { Clock } from '@stillpoint/core/kernel'

export type StreamFormat = 'ndjson' | 'sse'

export interface AnswerItem {
  /** The event's name, in server-sent events. */
  readonly name: string
  readonly id?: number
  readonly data: unknown
  /** A later item of the same key makes this one worthless. */
  readonly replaces?: string
}

export interface AnswerStream {
  write(item: AnswerItem): void
  /** Ends the answer, after what is waiting. */
  end(): void
}

export interface AnswerStreamOptions {
  readonly format: StreamFormat
  readonly clock: Clock
  /** How often something is written where nothing happens: the reader can tell silence from death. */
  readonly aliveMs: number
  readonly waitingMax: number
  readonly onClosed: () => void
}

export function streamFormat(accept: string | undefined): StreamFormat | undefined {
  const types = (accept ?? '').split(',').map((type) => type.split(';', 1)[0]?.trim().toLowerCase())
  if (types.includes('application/x-ndjson')) return 'ndjson'
  if (types.includes('text/event-stream')) return 'sse'
  return undefined
}

export function openAnswerStream(response: ServerResponse, options: AnswerStreamOptions): AnswerStream {
  const { format, clock, aliveMs, waitingMax, onClosed } = options
  let waiting: AnswerItem[] = []
  let ending = false
  let stopAlive = clock.after(aliveMs, alive)

  response.writeHead(200, {
    'content-type': format === 'ndjson' ? 'application/x-ndjson' : 'text/event-stream',
    'cache-control': 'no-store',
    // Proxies would keep the events until they have a page full of them.
    'x-accel-buffering': 'no',
  })
  response.flushHeaders()
  response.on('drain', flush)
  // Always followed by `close`.
  response.on('error', () => {})
  response.on('close', () => {
    stopAlive()
    if (!response.writableFinished) onClosed()
  })

  function alive(): void {
    if (waiting.length === 0 && !response.writableNeedDrain) {
      response.write(format === 'ndjson' ? '{"type":"alive"}\n' : ': alive\n\n')
    }
    stopAlive = clock.after(aliveMs, alive)
  }

  function flush(): void {
    const items = waiting
    waiting = []
    for (const [index, item] of items.entries()) {
      if (response.writableNeedDrain) {
        waiting = items.slice(index)
        return
      }
      response.write(textOf(item, format))
    }
    if (ending) response.end()
  }

  return {
    write(item) {
      if (ending || response.destroyed) return
      const { replaces } = item
      if (replaces !== undefined) waiting = waiting.filter((other) => other.replaces !== replaces)
      waiting.push(item)
      if (waiting.length > waitingMax) response.destroy()
      else if (!response.writableNeedDrain) flush()
    },
    end() {
      if (ending) return
      ending = true
      stopAlive()
      if (!response.writableNeedDrain) flush()
    },
  }
}

/** Text of JSON has no line breaks: one line is one item in both formats. */
function textOf({ name, id, data }: AnswerItem, format: StreamFormat): string {
  const json = JSON.stringify(data)
  if (format === 'ndjson') return `${json}\n`
  return `${id === undefined ? '' : `id: ${id}\n`}event: ${name}\ndata: ${json}\n\n`
}
