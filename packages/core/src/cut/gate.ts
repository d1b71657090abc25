/**
 * Who may run: the gate of one process. Decides for every piece of work whether it is handed to the application now,
 * waits, or is refused, and for every sending whether it leaves now and with which stamp.
 *
 * Relied on by:
 * - C1: a message of a later epoch is never handed over before this process has entered that epoch (`mayRun`).
 * - C2: a message is marked as arrived exactly once per session, so it is received, recorded or missing, never two.
 * - C8, C9: messages of another generation never reach the application.
 */
import type { ChannelId } from '../kernel/ids.ts'
import type { ChannelTraits, Stamp } from './messages.ts'
import type { Inbound, Item, ItemId, Origin, ProcessState, SendRequest, Step } from './process-state.ts'
import { countBusy, patch, patchWork, report, sessionKey } from './process-state.ts'
import { addReceived, hasReceived, nothingReceived } from './received.ts'

/** Takes in an item: refuses what must not come in, notes its arrival, and queues it. Call `pump` afterwards. */
export function admit(step: Step, item: Item): void {
  const { origin } = item
  if (origin.kind === 'outsider' || origin.kind === 'process') {
    patch(step, { waiting: [...step.state.waiting, item] })
    return
  }
  const { stamp } = origin
  if (stamp.generation !== step.state.generation) {
    // C9: nothing of an older generation is accepted; a newer one means that this process has not been restored yet.
    const reason = stamp.generation < step.state.generation ? 'older-generation' : 'newer-generation'
    step.effects.push({ type: 'refuse', item: item.item, reason })
    return
  }
  const inbound = inboundOf(step.state, origin)
  if (hasReceived(inbound.arrived, stamp.seq)) {
    step.effects.push({ type: 'refuse', item: item.item, reason: 'duplicate' })
    return
  }
  const newestEpoch = Math.max(inbound.newestEpoch, stamp.epoch)
  setInbound(step, { ...inbound, arrived: addReceived(inbound.arrived, stamp.seq), newestEpoch })
  patch(step, { waiting: [...step.state.waiting, item] })
}

/** Notes an in-band marker: it closes the channel's past. */
export function admitMarker(step: Step, place: Place, epoch: number): void {
  const inbound = inboundOf(step.state, place)
  setInbound(step, { ...inbound, newestEpoch: Math.max(inbound.newestEpoch, epoch) })
}

type Place = { readonly stamp: Pick<Stamp, 'channel' | 'session'>; readonly traits: ChannelTraits }

function inboundOf(state: ProcessState, origin: Place): Inbound {
  const { channel, session } = origin.stamp
  const known = state.inbound.get(sessionKey(channel, session))
  return known ?? { channel, session, traits: origin.traits, arrived: nothingReceived, epochMax: 0, newestEpoch: 0 }
}

function setInbound(step: Step, inbound: Inbound): void {
  const key = sessionKey(inbound.channel, inbound.session)
  if (!step.state.inbound.has(key)) forgetSessions(step, inbound.channel)
  patch(step, { inbound: new Map(step.state.inbound).set(key, inbound) })
}

/** How many sessions of a channel are remembered: the present one, and some whose last messages may still be under way. */
const sessionsKept = 8

/** A sender that restarts again and again must not make this state, and every mark, grow for ever. */
function forgetSessions(step: Step, channel: ChannelId): void {
  const { state } = step
  if (state.work !== null) return // The cut's counts must not change under it.
  const inUse = new Set<string>()
  for (const origin of [...state.running.values(), ...state.waiting.map((item) => item.origin)]) {
    if (origin.kind === 'message' || origin.kind === 'reply') inUse.add(sessionKey(channel, origin.stamp.session))
  }
  const sessions = [...state.inbound].filter(([, one]) => one.channel === channel)
  const old = sessions.slice(0, Math.max(0, sessions.length + 1 - sessionsKept)).filter(([key]) => !inUse.has(key))
  if (old.length === 0) return
  const inbound = new Map(state.inbound)
  for (const [key] of old) inbound.delete(key)
  patch(step, { inbound })
}

/** Hands over all that may run now, in order of arrival. */
export function pump(step: Step): void {
  if (step.state.waiting.length === 0) return
  let index = 0
  const blocked = new Set<string>()
  for (let item = step.state.waiting[index]; item !== undefined; item = step.state.waiting[index]) {
    const { origin } = item
    const isFifo = origin.kind === 'message' && origin.traits.fifo
    const fifoKey = isFifo ? sessionKey(origin.stamp.channel, origin.stamp.session) : null
    const waits = fifoKey !== null && blocked.has(fifoKey)
    if (!waits && mayRun(step.state, origin) && !(isFifo && isChannelBusy(step.state, origin.stamp))) {
      hand(step, item, index)
      continue
    }
    // A FIFO channel never overtakes itself, not even while its head waits for an epoch.
    if (fifoKey !== null) blocked.add(fifoKey)
    index += 1
  }
}

function isChannelBusy(state: ProcessState, { channel, session }: Stamp): boolean {
  for (const [item, origin] of state.running) {
    if (origin.kind !== 'message' || origin.stamp.channel !== channel || origin.stamp.session !== session) continue
    // A handler that the process entered the epoch without does not stop its channel: it may wait for that channel.
    if (!state.open.has(item)) return true
  }
  return false
}

function mayRun(state: ProcessState, origin: Origin): boolean {
  const coloured = origin.kind === 'message' || origin.kind === 'reply'
  if (coloured && origin.stamp.epoch > state.epoch) return false // C1
  const { gate } = state
  switch (origin.kind) {
    case 'reply':
      // Running handlers need it to end. Behind a closed gate only open handlers wait for one: until the gate opens,
      // or they would write to stores that have not marked.
      return gate.kind === 'open' || gate.kind === 'closing'
    case 'message':
      if (gate.kind === 'open') return true
      // A request from a handler elsewhere: processes that call each other would wait for ever without this.
      return origin.expectsReply && (gate.kind === 'closing' || (gate.kind === 'closed' && !hasMarked(state)))
    case 'outsider':
      if (!origin.holdable) return gate.kind !== 'marking'
      return gate.kind === 'open' && !isIngressHeld(state)
    case 'process':
      return gate.kind === 'open'
  }
}

function hasMarked(state: ProcessState): boolean {
  return state.work !== null && state.work.mark !== null
}

/** Uncoloured work waits from `quiesce` until this process has entered the epoch, while the hold lasts. */
function isIngressHeld(state: ProcessState): boolean {
  const { work } = state
  if (work === null || work.mark !== null) return false
  return work.entering !== null || (work.hold !== null && work.hold.broken === null)
}

function hand(step: Step, item: Item, index: number): void {
  const { origin } = item
  patch(step, { waiting: step.state.waiting.toSpliced(index, 1) })
  if (origin.kind === 'message' || origin.kind === 'reply') {
    const inbound = inboundOf(step.state, origin)
    if (origin.stamp.epoch > inbound.epochMax) setInbound(step, { ...inbound, epochMax: origin.stamp.epoch })
    noteHeard(step, origin.stamp)
  }
  const { work } = step.state
  if (origin.kind === 'outsider' && work !== null && isIngressHeld(step.state)) {
    // Bars the verdict `consistent`: what this outsider knows may come from a later epoch.
    patchWork(step, { uncolouredHandled: work.uncolouredHandled + 1 })
  }
  if (origin.kind !== 'reply') {
    reopenFor(step)
    patch(step, { running: new Map(step.state.running).set(item.item, origin) })
  }
  step.effects.push({ type: 'deliver', item: item.item })
}

/** What is heard between the hold and the mark: from a sender outside the plan it must be nothing (C4). */
function noteHeard(step: Step, { channel, session }: Stamp): void {
  const { work } = step.state
  if (work === null || work.hold === null || work.mark !== null) return
  patchWork(step, { heardWhileHeld: new Set(work.heardWhileHeld).add(sessionKey(channel, session)) })
}

/** A closed gate that lets a request through is no hold until it has closed again: it says so before anything runs. */
function reopenFor(step: Step): void {
  const { gate, work } = step.state
  if (gate.kind !== 'closed' || work === null || work.hold === null) return
  report(step, { type: 'reopened', ref: work.ref, hold: work.hold.number })
  patchWork(step, { hold: { ...work.hold, broken: 'the gate had to let a request through' } })
  patch(step, { gate: { kind: 'closing', local: false, sinceMs: gate.sinceMs, deadlineMs: work.hold.endsAtMs } })
}

/** A handler has ended. */
export function finish(step: Step, item: ItemId): void {
  if (!step.state.running.has(item)) return
  const running = new Map(step.state.running)
  running.delete(item)
  const open = new Set(step.state.open)
  open.delete(item)
  patch(step, { running, open })
}

/** Sends now, or keeps it until the gate allows it. */
export function requestSend(step: Step, request: SendRequest): void {
  if (maySend(step.state, request)) send(step, request)
  else patch(step, { heldSends: [...step.state.heldSends, request] })
}

function maySend(state: ProcessState, request: SendRequest): boolean {
  const byRunning = request.byItem !== null && state.running.has(request.byItem)
  switch (state.gate.kind) {
    case 'open':
      return true
    case 'closing':
    case 'closed':
      // What a handler does, its sendings are part of: a gate that closed at its deadline must not part the two.
      return byRunning
    case 'marking':
      return false
  }
}

function send(step: Step, request: SendRequest): void {
  const outbound = step.state.outbound.get(request.channel)
  if (outbound === undefined) {
    step.effects.push({ type: 'sendRefused', send: request.send })
    return
  }
  const seq = outbound.sent + 1
  patch(step, { outbound: new Map(step.state.outbound).set(request.channel, { ...outbound, sent: seq }) })
  const { generation, epoch } = step.state
  const { channel, session } = outbound
  const stamp = { generation, epoch, channel, session, seq, message: request.message }
  step.effects.push({ type: 'send', send: request.send, stamp })
}

/** Lets go what waited for the gate: sendings first, since they are older than what arrives now. */
export function openGate(step: Step): void {
  patch(step, { gate: { kind: 'open' } })
  const held = step.state.heldSends
  patch(step, { heldSends: [] })
  for (const request of held) send(step, request)
}

export function isQuiet(state: ProcessState): boolean {
  return countBusy(state) === 0
}
