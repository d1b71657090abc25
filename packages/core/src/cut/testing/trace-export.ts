/**
 * Writes down what a seeded world does in the steps of the specification (spec/CutTrace.tla), so that TLC can say
 * whether it is a behaviour of spec/Cut.tla.
 *
 * Owns: the mapping from the states of the production machines to those steps. It compares states before every input
 * to a process, before every order, and after every step of the world, and writes down what has changed since.
 * Does not own: judgement. A step that the specification does not allow is written down like any other.
 *
 * The specification's handlers are instants. A world in which a process marked without waiting for one says so
 * (`openHandlers`).
 */
import { defined } from '../../kernel/assert.ts'
import { type ChannelId, channelEnds, type ParticipantName } from '../../kernel/ids.ts'
import type { CoordinatorState } from '../coordinator-state.ts'
import { processesOf } from '../plan.ts'
import type { CutWork, ProcessState } from '../process-state.ts'
import type { StoreState } from '../store.ts'
import { runCut } from './run.ts'
import { createWorld } from './world.ts'
import type { Tamper, World, WorldOptions } from './world-types.ts'

/** `c`: the ends of a channel, `s`: a message's number on it. */
export type TraceStep =
  | { readonly e: 'planned' | 'resumeOrdered' | 'taken' | 'sealed' | 'aborted' }
  | { readonly e: 'markOrdered'; readonly reliedOn: Readonly<Record<string, number>> }
  /**
   * Of a process: its gate is closed, or its ingress held. `n`: 1 for the first hold of a cut; `o`: the gate did not wait
   * for handlers that still run (ADR 0007).
   */
  | { readonly e: 'held' | 'closedAgain'; readonly x: string; readonly n: number; readonly o: boolean }
  | { readonly e: 'leaseEnded' | 'reopened' | 'entering' | 'marked' | 'left'; readonly x: string }
  | { readonly e: 'resumed'; readonly x: string; readonly n: number; readonly u: boolean }
  | { readonly e: 'adopted'; readonly x: string; readonly n: number }
  | { readonly e: 'captured'; readonly x: string; readonly channels: readonly TraceDrain[] }
  | { readonly e: 'sent'; readonly c: readonly [string, string]; readonly s: number; readonly n: number }
  | { readonly e: 'handled' | 'recorded'; readonly c: readonly [string, string]; readonly s: number }

/** What a drain ended with on one channel. */
export interface TraceDrain {
  readonly c: readonly [string, string]
  readonly recorded: readonly number[]
  readonly missing: readonly number[]
}

export interface Trace {
  readonly steps: readonly TraceStep[]
  readonly openHandlers: boolean
  readonly outcomes: readonly string[]
}

interface Recorder {
  readonly steps: TraceStep[]
  readonly processes: Map<string, ProcessState>
  readonly stores: Map<string, { readonly state: StoreState; readonly isBroken: boolean }>
  /** Who is in the cut, in the specification's sense: held or further. */
  readonly inside: Set<string>
  readonly broken: Set<string>
  /** The number of the process's first hold of this cut. */
  readonly firstHold: Map<string, number>
  coordinator: CoordinatorState | null
  openHandlers: boolean
}

/** Runs that many cuts in a world of this seed. */
export function exportTrace(options: WorldOptions, cuts = 1): Trace {
  const recorder: Recorder = {
    steps: [],
    processes: new Map(),
    stores: new Map(),
    inside: new Set(),
    broken: new Set(),
    firstHold: new Map(),
    coordinator: null,
    openHandlers: false,
  }
  let world: World | null = null
  const look = (): void => {
    if (world !== null) observe(recorder, world)
  }
  world = createWorld({ ...options, tamper: observing(options.tamper, look) })
  const outcomes: string[] = []
  for (let cut = 0; cut < cuts; cut += 1) {
    runCut(world)
    look()
    outcomes.push(world.outcome?.kind ?? 'none')
  }
  return { steps: recorder.steps, openHandlers: recorder.openHandlers, outcomes }
}

/** Looks before whatever a world tells a machine, and changes nothing. */
function observing(inner: Tamper | undefined, look: () => void): Tamper {
  return {
    ...inner,
    order: (to, order, world) => {
      look()
      return inner?.order === undefined ? order : inner.order(to, order, world)
    },
    processInput: (name, input) => {
      look()
      return inner?.processInput === undefined ? input : inner.processInput(name, input)
    },
    storeAnswer: (name, answer) => {
      look()
      return inner?.storeAnswer === undefined ? answer : inner.storeAnswer(name, answer)
    },
  }
}

function observe(recorder: Recorder, world: World): void {
  if (world.coordinator !== recorder.coordinator && world.coordinator?.plan.cut !== recorder.coordinator?.plan.cut) {
    recorder.steps.push({ e: 'planned' })
  }
  for (const [name, { state }] of world.processes) {
    const before = recorder.processes.get(name)
    recorder.processes.set(name, state)
    if (before !== undefined && before !== state) observeProcess(recorder, name, before, state)
  }
  for (const [name, { state, holdBroken }] of world.stores) {
    const before = recorder.stores.get(name)
    recorder.stores.set(name, { state, isBroken: holdBroken })
    if (before !== undefined) observeStore(recorder, name, { before: before.state, after: state, isBroken: holdBroken })
  }
  const before = recorder.coordinator
  recorder.coordinator = world.coordinator
  if (world.coordinator !== null && before !== world.coordinator)
    observeCoordinator(recorder, before, world.coordinator)
}

function observeProcess(recorder: Recorder, name: string, before: ProcessState, after: ProcessState): void {
  const { steps } = recorder
  const old = sameWork(before.work, after.work)
  if (before.work !== null && old === null) leave(recorder, name)
  const { work } = after
  if (work !== null) observeHold(recorder, name, after, work)
  const isMarked = work?.mark != null && old?.mark == null
  const sentAtMark = new Map(isMarked ? work.mark?.sent.map(({ channel, sent }) => [channel, sent]) : [])
  if (isMarked) sendings(recorder, before, after, (channel) => sentAtMark.get(channel) ?? 0)
  if (work !== null) observeMark(recorder, name, work, old)
  if (work?.resumed != null && old?.resumed == null) {
    const { unbroken, hold } = work.resumed
    if (unbroken !== true) breakHold(recorder, name)
    steps.push({ e: 'resumed', x: name, n: hold - (recorder.firstHold.get(name) ?? hold) + 1, u: unbroken === true })
  }
  if (after.epoch !== before.epoch && !isMarked) steps.push({ e: 'adopted', x: name, n: after.epoch })
  if (work !== null) recordings(recorder, work, old)
  handlings(recorder, before, after)
  sendings(recorder, before, after)
  if (work?.drained != null && old?.drained == null) {
    const channels = work.drained.map(({ channel, recorded, missing }) => {
      return { c: endsOf(channel), recorded: recorded.map(({ seq }) => seq), missing }
    })
    steps.push({ e: 'captured', x: name, channels })
  }
}

function sameWork(before: CutWork | null, after: CutWork | null): CutWork | null {
  return before !== null && after !== null && before.ref.cut === after.ref.cut ? before : null
}

function leave({ steps, inside, broken, firstHold }: Recorder, name: string): void {
  if (inside.delete(name)) steps.push({ e: 'left', x: name })
  broken.delete(name)
  firstHold.delete(name)
}

function breakHold(
  { steps, inside, broken }: Recorder,
  name: string,
  e: 'leaseEnded' | 'reopened' = 'leaseEnded',
): void {
  if (!inside.has(name) || broken.has(name)) return
  broken.add(name)
  steps.push({ e, x: name })
}

function observeHold(recorder: Recorder, name: string, { gate }: ProcessState, work: CutWork): void {
  const { steps, inside, broken, firstHold } = recorder
  const { hold, role } = work
  if (hold === null) return
  if (hold.broken !== null) {
    breakHold(recorder, name, hold.broken === 'the lease ended' ? 'leaseEnded' : 'reopened')
    return
  }
  if (role.gated && gate.kind !== 'closed') return
  const o = role.gated && work.overrunning.size > 0
  const first = firstHold.get(name) ?? hold.number
  firstHold.set(name, first)
  if (!inside.has(name)) {
    inside.add(name)
    steps.push({ e: 'held', x: name, n: 1, o })
  } else if (broken.delete(name)) steps.push({ e: 'closedAgain', x: name, n: hold.number - first + 1, o })
}

function observeMark(recorder: Recorder, name: string, work: CutWork, old: CutWork | null): void {
  const isMarking = work.entering !== null || work.mark !== null
  const wasMarked = old !== null && old.mark !== null
  if (work.role.owns.length > 0 && isMarking && !wasMarked) observeEntering(recorder, name)
  if (work.mark === null || wasMarked) return
  if (work.mark.openHandlers.length > 0) recorder.openHandlers = true
  recorder.steps.push({ e: 'marked', x: name })
}

/** The state's mark is taken, those of the owned stores are awaited. */
function observeEntering({ steps, processes }: Recorder, name: string): void {
  if (processes.get(name)?.gate.kind !== 'marking') return
  const last = steps.findLast((step) => 'x' in step && step.x === name && step.e !== 'adopted')
  if (last?.e !== 'entering') steps.push({ e: 'entering', x: name })
}

function recordings({ steps }: Recorder, work: CutWork, old: CutWork | null): void {
  for (const { channel, session, recorded } of work.recordings) {
    const known = old?.recordings.find((one) => one.channel === channel && one.session === session)?.recorded ?? []
    for (const { seq } of recorded) {
      if (known.every((one) => one.seq !== seq)) steps.push({ e: 'recorded', c: endsOf(channel), s: seq })
    }
  }
}

function handlings({ steps }: Recorder, before: ProcessState, after: ProcessState): void {
  for (const [item, origin] of after.running) {
    if (before.running.has(item) || origin.kind !== 'message') continue
    steps.push({ e: 'handled', c: endsOf(origin.stamp.channel), s: origin.stamp.seq })
  }
}

/** Everything that was sent in between; up to `limit` it was sent before the mark. */
function sendings(
  recorder: Recorder,
  before: ProcessState,
  after: ProcessState,
  limit?: (channel: ChannelId) => number,
): void {
  for (const [channel, { sent }] of after.outbound) {
    const marked = after.work?.mark?.sent.find((one) => one.channel === channel)?.sent
    const enteredNow = after.work?.mark != null && before.work?.mark == null && marked !== undefined
    const from = before.outbound.get(channel)?.sent ?? 0
    const start = enteredNow && limit === undefined ? Math.max(from, marked) : from
    for (let seq = start + 1; seq <= Math.min(sent, limit?.(channel) ?? sent); seq += 1) {
      const epoch = limit === undefined ? after.epoch : before.epoch
      recorder.steps.push({ e: 'sent', c: endsOf(channel), s: seq, n: epoch })
    }
  }
}

function observeStore(
  recorder: Recorder,
  name: string,
  { before, after, isBroken }: { readonly before: StoreState; readonly after: StoreState; readonly isBroken: boolean },
): void {
  const { steps, inside } = recorder
  const isSame = before.work !== null && after.work !== null && before.work.ref.cut === after.work.ref.cut
  if (before.work !== null && !isSame) leave(recorder, name)
  const { work } = after
  if (work === null || work.ending !== null) return
  const old = isSame ? before.work : null
  if (work.hold !== null && old?.hold == null) {
    inside.add(name)
    steps.push({ e: 'held', x: name, n: 1, o: false })
  }
  if (isBroken && work.hold !== null && work.holdEvidence === null) breakHold(recorder, name)
  if (work.mark !== null && old?.mark == null) {
    inside.add(name)
    steps.push({ e: 'marked', x: name })
  }
  if (work.holdEvidence !== null && old?.holdEvidence == null && work.resumeOrderedAtMs !== null) {
    const { unbroken } = work.holdEvidence
    if (unbroken !== true) breakHold(recorder, name)
    steps.push({ e: 'resumed', x: name, n: 1, u: unbroken === true })
  }
  if (work.captured !== null && old?.captured == null) steps.push({ e: 'captured', x: name, channels: [] })
}

function observeCoordinator(recorder: Recorder, before: CoordinatorState | null, after: CoordinatorState): void {
  const { steps } = recorder
  const old = before?.plan.cut === after.plan.cut ? before : null
  const isNew = (step: 'markOrdered' | 'resumeOrdered'): boolean =>
    [...after.steps].some((one) => one.step === step) && ![...(old?.steps ?? [])].some((one) => one.step === step)
  if (isNew('markOrdered')) {
    const reliedOn: Record<string, number> = {}
    for (const { name } of processesOf(after.plan)) reliedOn[name] = reliedHold(recorder, after, name)
    steps.push({ e: 'markOrdered', reliedOn })
  }
  if (isNew('resumeOrdered')) steps.push({ e: 'resumeOrdered' })
  const isTaken = (state: CoordinatorState | null): boolean =>
    state !== null && (state.phase === 'collect' || state.phase === 'seal' || state.outcome?.kind === 'sealed')
  if (isTaken(after) && !isTaken(old)) steps.push({ e: 'taken' })
  if (after.outcome !== null && old?.outcome == null) steps.push({ e: after.outcome.kind })
}

function reliedHold({ firstHold }: Recorder, { tracks }: CoordinatorState, name: ParticipantName): number {
  const reliedOn = defined(tracks.get(name), name).holdReliedOn
  return reliedOn - (firstHold.get(name) ?? reliedOn) + 1
}

function endsOf(channel: ChannelId): readonly [string, string] {
  const { from, to } = channelEnds(channel)
  return [from, to]
}
