import type { Certificate } from '../certificate.ts'
import type { CoordinatorInput, CoordinatorState, CutOutcome } from '../coordinator-state.ts'
import type { Order, Stamp } from '../messages.ts'
import type { Deadlines, Plan } from '../plan.ts'
import type { ProcessInput, ProcessState } from '../process-state.ts'
import type { StoreAnswer, StoreState } from '../store.ts'
import type { Verdict } from '../verdict.ts'
import type { SeededRandom } from './seeded-random.ts'
import type { VectorClock } from './vector-clock.ts'

export interface WorldOptions {
  readonly seed: number
  readonly processes: number
  /** Stores by the names of the processes that write them; `unknown`: outsiders write too. */
  readonly stores: readonly { readonly name: string; readonly writers: readonly string[] | 'unknown' }[]
  readonly fifo: boolean
  readonly requests?: boolean
  readonly outsiders?: number
  readonly deadlines?: Partial<Deadlines>
  /** Chance in 1,000 that a step loses a process's connection, loses a message of a volatile channel, repeats an order. */
  readonly faults?: { readonly disconnect?: number; readonly lose?: number; readonly repeat?: number }
  /** Virtual milliseconds that a step may take at most. */
  readonly stepMsMax?: number
  /** A planted fault: changes what the machines are told or answer. */
  readonly tamper?: Tamper
}

/** Planted faults, to see that the checks can fail. */
export interface Tamper {
  readonly order?: (to: string, order: Order, world: World) => Order | null
  readonly processInput?: (name: string, input: ProcessInput) => ProcessInput | null
  readonly storeAnswer?: (name: string, answer: StoreAnswer) => StoreAnswer
  /** Stores do not hold, though they say so. */
  readonly holdNothing?: boolean
}

export interface AppMessage {
  readonly amount: number
  readonly clock: VectorClock
  readonly stamp: Stamp
  readonly kind: 'message' | 'request' | 'reply'
  /** The caller's item, for a request; the item that a reply is for. */
  readonly forItem: number | null
}

/** A running handler: what it still has to do. */
export interface Running {
  readonly process: string
  readonly item: number
  readonly actions: Action[]
  readonly message: AppMessage | null
  awaiting: boolean
}

export type Action =
  | { readonly kind: 'receive' }
  | { readonly kind: 'write'; readonly store: string }
  | { readonly kind: 'send'; readonly to: string; readonly amount: number }
  | { readonly kind: 'request'; readonly to: string }
  | { readonly kind: 'reply' }
  | { readonly kind: 'finish' }

export interface ProcessNode {
  state: ProcessState
  balance: number
  clock: VectorClock
  connected: boolean
  marked: { balance: number; clock: VectorClock } | null
  /** Amounts recorded as channel state of the current cut. */
  recorded: number[]
  readonly items: Map<number, AppMessage | 'outsider' | 'own'>
  readonly outsiderOf: Map<number, Outsider>
  readonly sends: Map<number, Omit<AppMessage, 'stamp'>>
}

export interface StoreNode {
  state: StoreState
  clock: VectorClock
  held: { untilMs: number } | null
  holdBroken: boolean
  marked: { clock: VectorClock } | null
  call: { call: StoreAnswer['call']; ref: Order['ref'] } | null
}

export interface Outsider {
  readonly name: string
  clock: VectorClock
  waiting: boolean
}

export interface SealedCut {
  readonly plan: Plan
  readonly certificate: Certificate
  readonly verdict: Verdict
  readonly balances: readonly number[]
  readonly recorded: readonly number[]
  readonly clocks: ReadonlyMap<string, VectorClock>
}

export interface World {
  nowMs: number
  readonly options: WorldOptions
  readonly random: SeededRandom
  readonly processes: Map<string, ProcessNode>
  readonly stores: Map<string, StoreNode>
  readonly outsiders: Outsider[]
  readonly orders: Map<string, Order[]>
  readonly facts: { from: string; input: CoordinatorInput & { type: 'factReceived' } }[]
  readonly network: Map<string, AppMessage[]>
  readonly markers: Map<string, { stamp: Pick<Stamp, 'generation' | 'epoch' | 'channel' | 'session'>; after: number }[]>
  readonly running: Running[]
  coordinator: CoordinatorState | null
  outcome: CutOutcome | null
  readonly sealed: SealedCut[]
  readonly aborted: { code: string; message: string }[]
  /** Every order and fact, for transcripts. */
  readonly log: string[]
  tokens: number
  nextItem: number
  nextSend: number
  nextMessage: number
  cutCount: number
}
