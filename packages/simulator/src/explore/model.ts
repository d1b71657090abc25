/**
 * A small world for exhaustive exploration: immutable, so that one state has many successors, and with nothing in it
 * that two ways to the same situation would write differently (ids are given by the scripts, not counted).
 *
 * Owns: the types of a world and its beginning. The moves are in moves.ts, their effects in carry-out.ts.
 *
 * What really happened is kept beside the protocol: `knows` of an actor is the set of participants of whose life
 * *after their mark* it has learnt. A mark that knows anything is the mark of a cut that is not closed under
 * happens-before. For one cut this is exactly what vector clocks would tell, in far fewer states.
 */
import {
  beginCut,
  type Certificate,
  type ChannelTraits,
  type CoordinatorState,
  type CutRecord,
  channelId,
  type Deadlines,
  type DeclaredStore,
  decideProcess,
  type Fact,
  initialProcess,
  initialStore,
  makePlan,
  type Order,
  type ParticipantName,
  type Plan,
  type ProcessState,
  participantName,
  type SessionId,
  type Stamp,
  type StoreCall,
  type StoreState,
} from '@stillpoint/core'
import type { CutId, Incarnation } from '@stillpoint/core/kernel'

/** A message of a script: what it carries, and what its receiver does with it. */
export interface Script {
  readonly id: number
  readonly to: string
  readonly amount: number
  readonly does: readonly Action[]
}

export type Action =
  | { readonly do: 'send'; readonly message: Script }
  /** Sends and waits for the reply, whose id is `reply`. */
  | { readonly do: 'request'; readonly message: Script; readonly reply: number }
  | { readonly do: 'reply'; readonly id: number; readonly to: string; readonly amount: number }
  | { readonly do: 'write'; readonly store: string; readonly amount: number }

export interface Faults {
  readonly crashes: number
  /** Messages that the network loses; the channels are then volatile. */
  readonly losses: number
  readonly takeovers: number
  /** Timers of one node that go off although others still have something to do: a pause, or a clock that jumps. */
  readonly expiries: number
  readonly sealFailures: number
  /** Orders that arrive twice. */
  readonly repeats: number
}

export interface Shape {
  readonly name: string
  readonly about: string
  /** What each process begins by itself: a list of handlers. */
  readonly processes: Readonly<Record<string, readonly (readonly Action[])[]>>
  readonly stores: readonly Omit<DeclaredStore, 'source'>[]
  readonly fifo: boolean
  /** Whom an outsider visits, in this order at any time. */
  readonly outsiders: readonly (readonly string[])[]
  readonly faults: Partial<Faults>
  readonly deadlines?: Partial<Deadlines>
  /** Processes outside the plan: each has an epoch, and messages for those who take part. Outsiders visit them, too. */
  readonly strangers?: Readonly<Record<string, Omit<Stranger, 'knows'>>>
  /** Facts and orders of an earlier attempt are still under way when the cut begins. */
  readonly stale?: boolean
}

export interface Running {
  readonly item: number
  readonly actions: readonly Action[]
  readonly awaiting: boolean
}

/** The state that a mark holds, as the world saw it at that instant. */
export interface Snapshot {
  readonly balance: number
  readonly knows: number
}

export interface ProcessNode {
  readonly state: ProcessState
  readonly nowMs: number
  readonly isAlive: boolean
  readonly balance: number
  readonly knows: number
  readonly marked: Snapshot | null
  readonly running: readonly Running[]
  /** Handlers that it has yet to begin. */
  readonly own: readonly (readonly Action[])[]
  /** Messages that it has got and that its application has not: by item. */
  readonly inbox: readonly Packet[]
  /** What it asked to send, until it may. */
  readonly outbox: readonly Packet[]
}

export interface StoreNode {
  readonly state: StoreState
  readonly nowMs: number
  readonly balance: number
  readonly knows: number
  readonly marked: Snapshot | null
  readonly isHeld: boolean
  readonly holdBroke: boolean
  readonly hasMark: boolean
  readonly call: StoreCall['call'] | null
}

export interface Packet {
  readonly script: Script
  readonly kind: 'message' | 'request' | 'reply'
  /** The item that waits for the reply, at the caller. */
  readonly forItem: number | null
  readonly knows: number
  readonly stamp: Stamp | null
}

export type Frame =
  | { readonly type: 'packet'; readonly packet: Packet }
  | { readonly type: 'marker'; readonly stamp: Omit<Stamp, 'seq' | 'message'> }

export interface Outsider {
  readonly visits: readonly string[]
  readonly knows: number
  readonly isWaiting: boolean
}

/** A process with the SDK that is not in the plan: nobody holds it. */
export interface Stranger {
  readonly epoch: number
  readonly sends: readonly Script[]
  readonly knows: number
}

/** What became of a message, by the world's own account. */
export interface Fate {
  readonly id: number
  readonly amount: number
  readonly sentBefore: boolean
  readonly received: 'no' | 'before' | 'after'
  readonly recorded: number
  readonly isLost: boolean
}

/** To a participant: an order, or the end of the connection on which the orders before it came. */
export type Downlink = { readonly order: Order } | 'lost'
/** To the coordinator: a fact, or the end of the participant's connection. */
export type Uplink = { readonly fact: Fact } | 'lost'

export interface World {
  readonly plan: Plan
  readonly coordinator: CoordinatorState | null
  readonly coordinatorNowMs: number
  readonly records: readonly CutRecord[]
  readonly processes: Readonly<Record<string, ProcessNode>>
  readonly stores: Readonly<Record<string, StoreNode>>
  readonly outsiders: readonly Outsider[]
  readonly strangers: Readonly<Record<string, Stranger>>
  readonly downlinks: Readonly<Record<string, readonly Downlink[]>>
  readonly uplinks: Readonly<Record<string, readonly Uplink[]>>
  readonly channels: Readonly<Record<string, readonly Frame[]>>
  readonly fates: readonly Fate[]
  /** What may still go wrong. */
  readonly faults: Faults
  /** How much has. */
  readonly trouble: number
  /** A message that knows of somebody's life after its mark is channel state of this cut. */
  readonly isTainted: boolean
  /** The certificate that is being written. */
  readonly sealing: Certificate | null
  /** What the repository holds: at most one, or C6 is broken. */
  readonly snapshots: number
  readonly tokens: number
  /** What judges found on the way here; a world with findings is not explored further. */
  readonly findings: readonly string[]
}

export const noFaults: Faults = { crashes: 0, losses: 0, takeovers: 0, expiries: 0, sealFailures: 0, repeats: 0 }
export const startBalance = 10
/** Ids of messages from outside the plan: from here on, one after the other. */
export const strangerItem = 50

export function traitsOf(shape: Shape): ChannelTraits {
  return { fifo: shape.fifo, volatile: (shape.faults.losses ?? 0) > 0 }
}

export function planOf(shape: Shape): Plan {
  return makePlan({
    system: 'explored',
    cut: 'cut-2' as CutId,
    epoch: 2,
    generation: 1,
    fencing: 2,
    stores: shape.stores.map((store) => ({ ...store, source: 'model' })),
    processes: Object.keys(shape.processes).map((name) => ({ name, incarnation: `${name}-1` as Incarnation })),
    ...(shape.deadlines === undefined ? {} : { deadlines: shape.deadlines }),
  })
}

function processNode(shape: Shape, name: string): ProcessNode {
  const start = { name: participantName(name), incarnation: `${name}-1` as Incarnation, generation: 1, epoch: 1 }
  let state = initialProcess(start)
  for (const other of Object.keys(shape.processes)) {
    if (other === name) continue
    const channel = channelId(participantName(name), participantName(other))
    const session = `${channel}/1` as SessionId
    const opened = { type: 'sessionOpened', channel, session, traits: traitsOf(shape) } as const
    state = decideProcess(state, opened).state
  }
  const own = shape.processes[name] ?? []
  const rest = { isAlive: true, balance: startBalance, knows: 0, marked: null, running: [], inbox: [], outbox: [] }
  return { state, nowMs: 0, own, ...rest }
}

function storeNode(name: string): StoreNode {
  const state = initialStore(participantName(name), `${name}-1` as Incarnation)
  const rest = { balance: 0, knows: 0, marked: null, isHeld: false, holdBroke: false, hasMark: false, call: null }
  return { state, nowMs: 0, ...rest }
}

/** Facts of the attempt before, which an unlucky network delivers only now. None of them may change anything (C8). */
function staleFacts(plan: Plan): readonly Uplink[] {
  const ref = { cut: 'cut-1' as CutId, epoch: 1, generation: 1, fencing: 1 }
  const held: Fact = { type: 'held', ref, stage: 'store', hold: 1 }
  const resumed: Fact = { type: 'resumed', ref, evidence: { unbroken: true, hold: 1, heldMs: 1 } }
  return plan.participants.length === 0 ? [] : [{ fact: held }, { fact: resumed }]
}

/** The world in which `beginCut` has just been decided and nothing of it has left yet. */
export function beginning(shape: Shape): World {
  const plan = planOf(shape)
  const names = Object.keys(shape.processes)
  const decision = beginCut(plan, 'digest', 0)
  const downlinks: Record<string, readonly Downlink[]> = {}
  const uplinks: Record<string, readonly Uplink[]> = {}
  for (const { name } of plan.participants) {
    downlinks[name] = decision.effects.flatMap((effect) =>
      effect.type === 'order' && effect.to === name ? [{ order: effect.order }] : [],
    )
    uplinks[name] = []
    // On a way of their own: they overtake what the participant says now.
    if (shape.stale === true) uplinks[`${name} before`] = staleFacts(plan)
  }
  const channels: Record<string, readonly Frame[]> = {}
  const strangers = Object.entries(shape.strangers ?? {})
  for (const [from, { sends }] of strangers) for (const { to } of sends) channels[`${from}→${to}`] = []
  for (const from of names) for (const to of names) if (from !== to) channels[`${from}→${to}`] = []
  return {
    plan,
    coordinator: decision.state,
    coordinatorNowMs: 0,
    records: decision.records,
    processes: Object.fromEntries(names.map((name) => [name, processNode(shape, name)])),
    stores: Object.fromEntries(shape.stores.map(({ name }) => [name, storeNode(name)])),
    outsiders: shape.outsiders.map((visits) => ({ visits, knows: 0, isWaiting: false })),
    strangers: Object.fromEntries(strangers.map(([name, stranger]) => [name, { ...stranger, knows: 0 }])),
    downlinks,
    uplinks,
    channels,
    fates: [],
    faults: { ...noFaults, ...shape.faults },
    // Somebody outside the plan may make an attempt void at any time.
    trouble: strangers.length,
    isTainted: false,
    sealing: null,
    snapshots: 0,
    tokens: names.length * startBalance,
    findings: [],
  }
}

/** The bit of a participant in `knows`. */
export function bitOf(world: World, name: string): number {
  return 1 << world.plan.participants.findIndex((participant) => participant.name === name)
}

export function nameOf(text: string): ParticipantName {
  return participantName(text)
}
