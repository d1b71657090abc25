/**
 * The plan of one cut: who takes part, in which role, and how long each phase may take. It is made once, persisted
 * before anything is asked of anybody, and never changed: whoever joins later waits for the next cut.
 *
 * Owns: the plan's shape, and the rule that derives each store's case from its declared writers.
 * Does not own: who is connected (the shell knows), nor the digest (the shell computes it over `canonicalPlan`).
 */
import { defined } from '../kernel/assert.ts'
import { Failure } from '../kernel/failure.ts'
import { type CutId, type Incarnation, type ParticipantName, participantName } from '../kernel/ids.ts'

/**
 * How a store's state is tied to its writers, in falling order of comfort.
 * - `owned`: one process writes it and marks it behind its own gate; nobody else waits.
 * - `gated`: several processes write it; their gates close together.
 * - `quiesced`: unknown writers; the store itself is held.
 */
export type Grade = 'owned' | 'gated' | 'quiesced'

export interface ProcessPlan {
  readonly kind: 'process'
  readonly name: ParticipantName
  readonly incarnation: Incarnation
  /** It writes a gated or quiesced store: its gate closes before the stores are held, and opens at `resume`. */
  readonly gated: boolean
  /** The stores that it alone writes, marked while it enters the epoch. */
  readonly owns: readonly ParticipantName[]
}

export interface StorePlan {
  readonly kind: 'store'
  readonly name: ParticipantName
  /** Kind of the source that drives it. */
  readonly source: string
  readonly grade: Grade
  readonly writers: readonly ParticipantName[] | 'unknown'
}

export type ParticipantPlan = ProcessPlan | StorePlan

/** How long each phase may take, in milliseconds. */
export interface Deadlines {
  readonly prepareMs: number
  /** From the first hold asked for to the last one acknowledged. */
  readonly quiesceMs: number
  /** From the order to mark to the last mark. */
  readonly markMs: number
  readonly resumeMs: number
  readonly drainMs: number
  readonly captureMs: number
  /** The lease of every hold: it covers quiesce, mark and resume. */
  readonly leaseMs: number
  /** How long a closing gate waits for running handlers before it declares them open. */
  readonly handlerMs: number
}

export const defaultDeadlines: Deadlines = {
  prepareMs: 30_000,
  quiesceMs: 3_000,
  markMs: 3_000,
  resumeMs: 3_000,
  drainMs: 10_000,
  captureMs: 24 * 3_600_000,
  leaseMs: 8_000,
  handlerMs: 2_000,
}

export interface Plan {
  readonly version: 1
  readonly system: string
  readonly cut: CutId
  /** The number of this cut: greater than that of every earlier attempt in this generation. */
  readonly epoch: number
  readonly generation: number
  /** Token of the coordinator's lease; an older one changes nothing (C8). */
  readonly fencing: number
  readonly participants: readonly ParticipantPlan[]
  readonly deadlines: Deadlines
  /** Seal even when the verdict is `inconsistent`. Never the default. */
  readonly allowInconsistent: boolean
}

export interface DeclaredStore {
  readonly name: string
  readonly source: string
  /** Names of the processes that write it; `unknown` when others may. */
  readonly writers: readonly string[] | 'unknown'
}

export interface PlanRequest {
  readonly system: string
  readonly cut: CutId
  readonly epoch: number
  readonly generation: number
  readonly fencing: number
  readonly stores: readonly DeclaredStore[]
  readonly processes: readonly { readonly name: string; readonly incarnation: Incarnation }[]
  readonly deadlines?: Partial<Deadlines>
  readonly allowInconsistent?: boolean
}

/**
 * Derives the plan from what is declared and who is there.
 * @throws Failure `plan_invalid` naming the participant, `name_invalid`
 */
export function makePlan(request: PlanRequest): Plan {
  const processNames = new Set<string>()
  for (const { name } of request.processes) {
    participantName(name)
    if (processNames.has(name)) throw planInvalid(name, 'is there twice', 'Give each participant a name of its own.')
    processNames.add(name)
  }
  const stores = request.stores.map((store) => planStore(store, processNames))
  const storeNames = new Set<string>()
  for (const { name } of stores) {
    if (storeNames.has(name) || processNames.has(name)) {
      throw planInvalid(name, 'is there twice', 'Give each participant a name of its own.')
    }
    storeNames.add(name)
  }
  const writtenBy = new Map<string, StorePlan[]>(request.processes.map(({ name }) => [name, []]))
  for (const store of stores) {
    if (store.writers === 'unknown') continue
    for (const writer of store.writers) writtenBy.get(writer)?.push(store)
  }
  const anybodyWrites = stores.some(({ writers }) => writers === 'unknown')
  const processes = request.processes.map(({ name, incarnation }): ProcessPlan => {
    const written = defined(writtenBy.get(name), name)
    // A process gates whenever it may write a store that somebody else's mark must be aligned with.
    const gated = written.some(({ grade }) => grade !== 'owned') || anybodyWrites
    const owns = written.filter(({ grade }) => grade === 'owned').map((store) => store.name)
    return { kind: 'process', name: participantName(name), incarnation, gated, owns }
  })
  const participants = [...processes, ...stores]
  if (participants.length === 0) {
    throw planInvalid(request.system, 'has no participants', 'Declare stores or processes in stillpoint.yaml.')
  }
  const { system, cut, epoch, generation, fencing } = request
  const deadlines = { ...defaultDeadlines, ...request.deadlines }
  const allowInconsistent = request.allowInconsistent ?? false
  return { version: 1, system, cut, epoch, generation, fencing, participants, deadlines, allowInconsistent }
}

function planStore(store: DeclaredStore, processNames: ReadonlySet<string>): StorePlan {
  const name = participantName(store.name)
  const { source } = store
  if (store.writers === 'unknown') return { kind: 'store', name, source, grade: 'quiesced', writers: 'unknown' }
  const writers = [...new Set(store.writers)].map(participantName)
  for (const writer of writers) {
    if (processNames.has(writer)) continue
    const hint = 'Start that process, or take it out of the "writers" of this store.'
    throw planInvalid(store.name, `is written by the process "${writer}", which is not connected`, hint)
  }
  if (writers.length === 0) return { kind: 'store', name, source, grade: 'quiesced', writers: 'unknown' }
  return { kind: 'store', name, source, grade: writers.length === 1 ? 'owned' : 'gated', writers }
}

function planInvalid(name: string, what: string, hint: string): Failure {
  return new Failure({ code: 'plan_invalid', message: `No cut can be planned: "${name}" ${what}`, hint })
}

export function processesOf(plan: Plan): readonly ProcessPlan[] {
  return plan.participants.filter((participant) => participant.kind === 'process')
}

export function storesOf(plan: Plan): readonly StorePlan[] {
  return plan.participants.filter((participant) => participant.kind === 'store')
}

/** The plan as text with sorted keys: equal plans, equal text. What the plan's digest is computed over. */
export function canonicalPlan(plan: Plan): string {
  return canonicalJson(plan)
}

/** JSON with the keys of every object sorted. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  const entries = Object.entries(value).filter(([, item]) => item !== undefined)
  entries.sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(',')}}`
}
