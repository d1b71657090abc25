/**
 * Virtual time: a heap of what happens when. Events of one instant happen in the order in which they were scheduled.
 *
 * Invariant: nothing here reads a clock of this machine, so a run is decided by its scenario alone.
 */

interface Entry {
  readonly atMs: number
  readonly order: number
  readonly run: () => void
  isCancelled: boolean
}

export class Timeline {
  nowMs = 0
  readonly #heap: Entry[] = []
  #order = 0

  /** Answers a function that cancels it. An event of the past happens now. */
  at(atMs: number, run: () => void): () => void {
    this.#order += 1
    const entry: Entry = { atMs: Math.max(atMs, this.nowMs), order: this.#order, run, isCancelled: false }
    this.#push(entry)
    return () => {
      entry.isCancelled = true
    }
  }

  /** The next event's time; `undefined` when nothing will happen any more. */
  nextMs(): number | undefined {
    while (this.#heap[0]?.isCancelled === true) this.#pop()
    return this.#heap[0]?.atMs
  }

  step(): void {
    if (this.nextMs() === undefined) return
    const entry = this.#pop()
    if (entry === undefined) return
    this.nowMs = entry.atMs
    entry.run()
  }

  #push(entry: Entry): void {
    const heap = this.#heap
    let index = heap.push(entry) - 1
    while (index > 0) {
      const parent = (index - 1) >> 1
      const above = heap[parent]
      if (above === undefined || isBefore(above, entry)) break
      heap[index] = above
      index = parent
    }
    heap[index] = entry
  }

  #pop(): Entry | undefined {
    const heap = this.#heap
    const [top] = heap
    const last = heap.pop()
    if (top === undefined || last === undefined || heap.length === 0) return top
    let index = 0
    for (;;) {
      let child = index * 2 + 1
      let below = heap[child]
      if (below === undefined) break
      const right = heap[child + 1]
      if (right !== undefined && isBefore(right, below)) {
        child += 1
        below = right
      }
      if (isBefore(last, below)) break
      heap[index] = below
      index = child
    }
    heap[index] = last
    return top
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}
