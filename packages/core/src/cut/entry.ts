/**
 * Entering an epoch: from the first thing that names it (the coordinator's order, a message of the epoch, an in-band
 * marker) to the mark.
 *
 * Order of events, each of which may be the last one before a crash:
 *   local gate closes → running handlers end, or are declared open → the state is marked, then the stores that this
 *   process owns → the epoch changes, counts are frozen, what waited is recorded → `marked` is reported.
 *
 * Relied on by C1 (the epoch changes only here and in `adoptEpoch`, and nothing of it was handed over before) and
 * C2 (counts and recordings are made from the same state, in one step).
 */
import { defined } from '../kernel/assert.ts'
import type { ChannelId, SessionId } from '../kernel/ids.ts'
import { isQuiet, openGate } from './gate.ts'
import type { OpenHandler, ProcessMark, ReceivedAtCut, SentAtCut } from './messages.ts'
import type {
  CutWork,
  Entering,
  Inbound,
  Item,
  ItemId,
  OpenItem,
  Origin,
  ProcessState,
  Recording,
  Step,
} from './process-state.ts'
import { patch, patchWork, report, sessionKey } from './process-state.ts'
import { nothingReceived, removeReceived } from './received.ts'

/** Starts to enter the epoch of the current cut, unless that has begun already. */
export function beginEntering(step: Step, cause: Pick<Entering, 'by' | 'from'>, nowMs: number): void {
  const { work, gate } = step.state
  if (work === null || work.entering !== null || work.mark !== null) return
  patchWork(step, {
    entering: {
      ...cause,
      sinceMs: nowMs,
      stateMarked: false,
      ownedMarked: work.role.owns.length === 0,
      openHandlers: [],
      replaced: [],
    },
  })
  if (gate.kind === 'open') {
    patch(step, { gate: { kind: 'closing', local: true, sinceMs: nowMs, deadlineMs: nowMs + work.role.handlerMs } })
  }
}

/** Takes the mark once nothing runs that the mark must wait for. */
export function tryMarking(step: Step, nowMs: number): void {
  const { work, gate } = step.state
  if (work === null || work.entering === null || work.mark !== null || gate.kind === 'marking') return
  declareReplyWaiters(step)
  const late = gate.kind === 'closing' && nowMs >= gate.deadlineMs
  if (late || gate.kind === 'closed') declareAllOpen(step)
  if (!isQuiet(step.state)) return
  const sinceMs = gate.kind === 'open' ? nowMs : gate.sinceMs
  patch(step, { gate: { kind: 'marking', sinceMs, deadlineMs: nowMs + work.role.leaseMs } })
  step.effects.push({ type: 'markState', ref: work.ref })
  if (work.role.owns.length > 0) report(step, { type: 'entering', ref: work.ref })
}

/** A handler that waits for a reply of the coming epoch can never end before it: the process enters without it. */
function declareReplyWaiters(step: Step): void {
  for (const { origin } of step.state.waiting) {
    if (origin.kind !== 'reply' || origin.awaitedBy === null || origin.stamp.epoch <= step.state.epoch) continue
    declareOpen(step, origin.awaitedBy, 'reply')
  }
}

function declareAllOpen(step: Step): void {
  for (const item of step.state.running.keys()) declareOpen(step, item, 'deadline')
}

function declareOpen(step: Step, item: ItemId, cutOffBy: OpenHandler['cutOffBy']): void {
  const { work } = step.state
  const origin = step.state.running.get(item)
  if (origin === undefined || step.state.open.has(item) || work === null || work.entering === null) return
  patch(step, { open: new Set(step.state.open).add(item) })
  const openItem: OpenItem = { item, origin, handler: describeOpen(origin, cutOffBy) }
  patchWork(step, { entering: { ...work.entering, openHandlers: [...work.entering.openHandlers, openItem] } })
}

/** A handler that ends between its gate's closing and the mark is in the mark, with all that it did meanwhile. */
export function noteOverrun(step: Step, item: ItemId): void {
  const { work } = step.state
  const origin = step.state.running.get(item)
  if (work === null || origin === undefined || work.mark !== null) return
  if (!work.overrunning.has(item) || step.state.open.has(item)) return
  patchWork(step, { overran: [...work.overran, describeOpen(origin, 'gate')] })
}

function describeOpen(origin: Origin, cutOffBy: OpenHandler['cutOffBy']): OpenHandler {
  if (origin.kind === 'message') {
    const { message, channel } = origin.stamp
    return { startedBy: 'message', message, channel, transactional: origin.transactional, cutOffBy }
  }
  const startedBy = origin.kind === 'outsider' ? 'outsider' : 'process'
  return { startedBy, transactional: origin.kind !== 'reply' && origin.transactional, cutOffBy }
}

/** Enters the epoch once the state and all owned stores have marked. */
export function tryEnter(step: Step, nowMs: number): void {
  const { work, gate } = step.state
  if (work === null || work.entering === null || work.mark !== null || gate.kind !== 'marking') return
  if (!work.entering.stateMarked || !work.entering.ownedMarked) return
  // An open handler that ended while the mark was taken is open all the same: the mark may not have its effects.
  const mark = takeCounts(step.state, work, work.entering, nowMs - gate.sinceMs)
  patch(step, { epoch: work.ref.epoch })
  patchWork(step, { mark, entering: null, recordings: recordingsAt(step.state, mark) })
  for (const item of [...step.state.waiting, ...work.entering.openHandlers]) record(step, item)
  report(step, { type: 'marked', ref: work.ref, evidence: mark })
  sendMarkers(step)
  if (work.role.gated) patch(step, { gate: { kind: 'closed', sinceMs: gate.sinceMs } })
  else openGate(step)
}

function takeCounts(state: ProcessState, work: CutWork, entering: Entering, gateMs: number): ProcessMark {
  const { by, from, openHandlers, replaced } = entering
  const sent = [...replaced, ...state.outbound.values()].map(
    ({ channel, session, traits, sent, uncertain }): SentAtCut => ({ channel, session, ...traits, sent, uncertain }),
  )
  const left = [...state.waiting, ...openHandlers]
  const received = [...state.inbound.values()].map((inbound) => receivedBy(inbound, left, work.heardWhileHeld))
  return {
    kind: 'process',
    incarnation: state.incarnation,
    epochEntered: work.ref.epoch,
    enteredBy: by,
    ...(from === null ? {} : { enteredFrom: from }),
    sent,
    received,
    openHandlers: [...openHandlers.map(({ handler }) => handler), ...work.overran],
    uncolouredHandled: work.uncolouredHandled,
    gateMs,
  }
}

/** What arrived, less what waits and less what started an open handler: neither is part of the marked state. */
function receivedBy(inbound: Inbound, left: readonly Item[], heard: ReadonlySet<string>): ReceivedAtCut {
  const { channel, session, epochMax } = inbound
  const key = sessionKey(channel, session)
  let received = inbound.arrived
  for (const { origin } of left) {
    if (origin.kind !== 'message' && origin.kind !== 'reply') continue
    if (sessionKey(origin.stamp.channel, origin.stamp.session) === key)
      received = removeReceived(received, origin.stamp.seq)
  }
  return { channel, session, received, epochMax, heardWhileHeld: heard.has(key) }
}

function recordingsAt(state: ProcessState, mark: ProcessMark): readonly Recording[] {
  return mark.received.map(({ channel, session, received }): Recording => {
    const { fifo } = defined(state.inbound.get(sessionKey(channel, session)), `session ${session}`).traits
    return { channel, session, fifo, received, recorded: [] }
  })
}

/**
 * Records a message of an earlier epoch as channel state of the current cut (C2). It comes here once: when it arrives, or
 * at the mark if it waits or is open then, and the mark does not count it as received; the verdict would find it twice.
 * Anything else is left alone: messages of the new epoch, sessions that are closed for recording, work without colour.
 */
export function record(step: Step, { item, origin }: Item): void {
  const { work } = step.state
  if (work === null || work.mark === null || work.drained !== null) return
  if (origin.kind !== 'message' && origin.kind !== 'reply') return
  const { stamp } = origin
  if (stamp.epoch >= work.ref.epoch) return
  const recording = recordingOf(work, origin.stamp.channel, stamp.session, origin.traits.fifo)
  const recorded = [...recording.recorded, { seq: stamp.seq, message: stamp.message }].sort((a, b) => a.seq - b.seq)
  setRecording(step, work, { ...recording, recorded })
  step.effects.push({ type: 'record', ref: work.ref, item, channel: stamp.channel, seq: stamp.seq })
}

function recordingOf(work: CutWork, channel: ChannelId, session: SessionId, fifo: boolean): Recording {
  const known = work.recordings.find((one) => one.channel === channel && one.session === session)
  return known ?? { channel, session, fifo, received: nothingReceived, recorded: [] }
}

function setRecording(step: Step, work: CutWork, recording: Recording): void {
  const others = work.recordings.filter(
    ({ channel, session }) => channel !== recording.channel || session !== recording.session,
  )
  patchWork(step, { recordings: [...others, recording] })
}

function sendMarkers(step: Step): void {
  const { generation, epoch } = step.state
  for (const { channel, session, traits } of step.state.outbound.values()) {
    if (traits.fifo) step.effects.push({ type: 'sendMarker', stamp: { generation, epoch, channel, session } })
  }
}

/**
 * Takes over an epoch in which this process has nothing to record: it joined after the plan, or the cut is over.
 * The epoch never goes back.
 */
export function adoptEpoch(step: Step, epoch: number): void {
  if (epoch > step.state.epoch) patch(step, { epoch })
}
