/** What happened, in order, for a person to read and for comparing two runs to the last byte. */

export interface TraceEvent {
  readonly atMs: number
  readonly node: string
  readonly text: string
  /** Another node that this comes from. */
  readonly from?: string
}

export class Trace {
  readonly events: TraceEvent[] = []
  readonly #isKept: boolean

  constructor(isKept: boolean) {
    this.#isKept = isKept
  }

  /** @param text called only when the trace is kept */
  add(atMs: number, node: string, text: () => string, from?: string): void {
    if (!this.#isKept) return
    this.events.push(from === undefined ? { atMs, node, text: text() } : { atMs, node, text: text(), from })
  }

  lines(): readonly string[] {
    return this.events.map(({ atMs, node, text, from }) => {
      return `${atMs.toFixed(3).padStart(10)} ${node} ${from === undefined ? '' : `← ${from} `}${text}`
    })
  }
}

/** One column per node, time downwards: `●` where something happened, `─` from whom it came. */
export function diagram(trace: Trace, nodes: readonly string[]): readonly string[] {
  const width = 6
  const column = (name: string): number => nodes.indexOf(name)
  const lines = [`${' '.repeat(11)}${nodes.map((name) => name.slice(0, width - 1).padEnd(width)).join('')}`]
  for (const { atMs, node, text, from } of trace.events) {
    const cells = nodes.map(() => '│'.padEnd(width))
    const [at, source] = [column(node), from === undefined ? -1 : column(from)]
    if (at >= 0 && source >= 0 && at !== source) {
      const [left, right] = at < source ? [at, source] : [source, at]
      for (let index = left; index < right; index += 1) cells[index] = '─'.repeat(width)
      cells[right] = '┤'.padEnd(width)
      cells[source] = source === right ? '┘'.padEnd(width) : `└${'─'.repeat(width - 1)}`
    }
    if (at >= 0) {
      const isLeft = source > at
      cells[at] = isLeft ? `●${'─'.repeat(width - 1)}` : '●'.padEnd(width)
    }
    lines.push(`${atMs.toFixed(1).padStart(9)}  ${cells.join('')}${text}`)
  }
  return lines
}
