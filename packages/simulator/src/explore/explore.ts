/**
 * Exhaustive exploration: every state that any interleaving can reach, each once. Depth first, so that only one path's
 * worlds are kept; of all other states only their keys and the edges between them are.
 *
 * Answers the counts, and the first finding with the moves that lead to it.
 */
import { defined } from '@stillpoint/core/kernel'
import { Canon, fieldsOfStrangers, fieldsOfTruth, fieldsUnread } from './canonical.ts'
import { isEnded, restFindings, stateFindings } from './judge.ts'
import { beginning, type Shape, type World } from './model.ts'
import { type Move, movesOf } from './moves.ts'
import { isCalm, isCommuting, nextAlone } from './reduce.ts'

export interface Explored {
  readonly shape: string
  readonly states: number
  readonly transitions: number
  readonly depth: number
  readonly sealed: number
  readonly aborted: number
  /** Processor time, milliseconds. */
  readonly cpuMs: number
  /** Only one order was followed of moves that commute with all others (reduce.ts). */
  readonly isReduced: boolean
  /** False when the bound on states was reached before the end. */
  readonly isComplete: boolean
  readonly findings: readonly string[]
  /** The moves that lead to the findings. */
  readonly path: readonly string[]
}

interface Frame {
  readonly number: number
  readonly moves: readonly Move[]
  next: number
  readonly label: string
}

/** Numbers of states, and the edges between them: for the question from where an end can be reached (C10). */
class Graph {
  readonly numbers = new Map<string, number>()
  readonly from: number[] = []
  readonly to: number[] = []
  readonly ends = new Set<number>()

  /** Answers a state from which no ended one can be reached, or `undefined`. */
  stuck(): number | undefined {
    const states = this.numbers.size
    const before: number[][] = Array.from({ length: states }, () => [])
    for (const [edge, target] of this.to.entries()) before[target]?.push(this.from[edge] ?? 0)
    const reached = new Uint8Array(states)
    const queue = [...this.ends]
    for (const end of queue) reached[end] = 1
    for (let state = queue.pop(); state !== undefined; state = queue.pop()) {
      for (const earlier of before[state] ?? []) {
        if (reached[earlier] === 1) continue
        reached[earlier] = 1
        queue.push(earlier)
      }
    }
    const stuck = reached.indexOf(0)
    return stuck === -1 ? undefined : stuck
  }
}

export interface ExploreOptions {
  readonly statesMax?: number
  /** Every interleaving, one by one, and no two states are one that are not equal: slow, to check what is left out. */
  readonly isPlain?: boolean
  /** Every world that a move leads to, known or not. */
  readonly onReached?: (world: World) => void
}

export function explore(shape: Shape, options: ExploreOptions = {}): Explored {
  const reduced = options.isPlain !== true && isCalm(beginning(shape)) ? search(shape, options, true) : null
  return reduced ?? defined(search(shape, options, false), 'an exploration')
}

/** Answers `null` when it was to be reduced, and something came to light that does not commute. */
function search(
  shape: Shape,
  { statesMax = 2_000_000, isPlain = false, onReached }: ExploreOptions,
  isReduced: boolean,
): Explored | null {
  const started = process.cpuUsage()
  const keys = keysOf(shape, isPlain)
  const graph = new Graph()
  const stack: Frame[] = []
  const counts = { transitions: 0, depth: 0, sealed: 0, aborted: 0 }
  let findings: readonly string[] = []

  let isValid = true
  const visit = (world: World, label: string): number => {
    onReached?.(world)
    const key = keys(world)
    const known = graph.numbers.get(key)
    if (known !== undefined) return known
    const number = graph.numbers.size
    graph.numbers.set(key, number)
    findings = stateFindings(world)
    if (isReduced && !isCommuting(world)) isValid = false
    const alone = isReduced ? nextAlone(world) : null
    const moves = findings.length > 0 ? [] : alone === null ? movesOf(world) : [alone]
    if (moves.length === 0 && findings.length === 0) findings = restFindings(world)
    if (isEnded(world)) graph.ends.add(number)
    if (moves.length === 0) count(counts, world)
    stack.push({ number, moves, next: 0, label })
    counts.depth = Math.max(counts.depth, stack.length)
    return number
  }

  visit(beginning(shape), 'the cut begins')
  for (let frame = stack.at(-1); frame !== undefined && findings.length === 0 && isValid; frame = stack.at(-1)) {
    const move = frame.moves[frame.next]
    if (move === undefined || graph.numbers.size >= statesMax) {
      stack.pop()
      continue
    }
    frame.next += 1
    counts.transitions += 1
    const target = visit(move.world, move.label)
    graph.from.push(frame.number)
    graph.to.push(target)
  }
  if (!isValid && findings.length === 0) return null
  const path = findings.length === 0 ? [] : stack.map(({ label }) => label)
  const isComplete = findings.length === 0 && graph.numbers.size < statesMax
  if (isComplete && graph.stuck() !== undefined) {
    findings = [`C10: from state ${graph.stuck()} no end can be reached any more`]
  }
  const used = process.cpuUsage(started)
  const cpuMs = (used.user + used.system) / 1_000
  return { shape: shape.name, states: graph.numbers.size, ...counts, cpuMs, isReduced, isComplete, findings, path }
}

function count(counts: { sealed: number; aborted: number }, world: World): void {
  for (const record of world.records) {
    if (record.type !== 'ended') continue
    if (record.outcome.kind === 'sealed') counts.sealed += 1
    else counts.aborted += 1
  }
}

/** Everything that decides what can happen next, and what has been found: equal for states with the same future. */
function keysOf(shape: Shape, isPlain: boolean): (world: World) => string {
  const unread = isPlain ? [] : [...fieldsUnread, ...(shape.strangers === undefined ? fieldsOfStrangers : [])]
  const running = new Canon(unread)
  const over = isPlain ? running : new Canon([...unread, ...fieldsOfTruth])
  return (world) => {
    const { processes, stores, downlinks, uplinks, channels, records, coordinator, faults } = world
    const isOver = isEnded(world)
    const canon = isOver ? over : running
    // Only the next coordinator reads them.
    const needsRecords = isPlain || coordinator === null || faults.takeovers > 0
    const outcomes = records.filter(({ type }) => type === 'ended')
    return canon.keyOf([
      coordinator,
      world.coordinatorNowMs,
      isPlain ? records : canon.unordered(needsRecords ? records : outcomes),
      ...Object.values(processes),
      ...Object.values(stores),
      ...world.outsiders,
      ...Object.values(world.strangers),
      world.isTainted,
      ...Object.values(downlinks),
      ...Object.values(uplinks),
      ...Object.values(channels),
      isOver && !isPlain ? [] : world.fates,
      faults,
      world.sealing !== null,
      world.snapshots,
      world.findings,
      isOver,
      world.trouble > 0,
    ])
  }
}
