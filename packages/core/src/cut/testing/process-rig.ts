/**
 * For the direct tests of the cut's machines: one machine at a time, or all machines of a system with a shell that
 * answers at once. Nothing here is random, and nothing judges: each test says what must come out.
 */
import { defined } from '../../kernel/assert.ts'
import type { FailureReport } from '../../kernel/failure.ts'
import {
  type ChannelId,
  type CutId,
  channelId,
  type Incarnation,
  type MessageId,
  type ParticipantName,
  participantName,
  type SessionId,
  type TreeId,
} from '../../kernel/ids.ts'
import type { ChannelTraits, CutRef, Fact, FactType, HoldStage, Order, Role, SentAtCut, Stamp } from '../messages.ts'
import { decideProcess } from '../process.ts'
import {
  type CutWork,
  type ItemId,
  initialProcess,
  type Origin,
  type ProcessEffect,
  type ProcessInput,
  type ProcessState,
} from '../process-state.ts'

export const loose: ChannelTraits = { fifo: false, volatile: false }
export const fifo: ChannelTraits = { fifo: true, volatile: false }
export const volatile: ChannelTraits = { fifo: false, volatile: true }

export function nameOf(text: string): ParticipantName {
  return participantName(text)
}

export function incarnationOf(text: string): Incarnation {
  return text as Incarnation
}

export function channel(from: string, to: string): ChannelId {
  return channelId(nameOf(from), nameOf(to))
}

export function sessionOf(from: string, to: string, life = 1): SessionId {
  return `${from}→${to}/${life}` as SessionId
}

export function messageId(text: string): MessageId {
  return text as MessageId
}

export function treeOf(text: string): TreeId {
  return text as TreeId
}

export const cutRef: CutRef = { cut: 'cut-1' as CutId, epoch: 1, generation: 1, fencing: 1 }

/** The next attempt: another cut, one epoch later. */
export const nextRef: CutRef = { ...cutRef, cut: 'cut-2' as CutId, epoch: 2 }

export function failureOf(code: string, retry: FailureReport['retry'] = 'later'): FailureReport {
  return { code, message: `planted: ${code}`, retry }
}

export function stampOf(from: string, to: string, place: { seq: number; epoch?: number; generation?: number }): Stamp {
  const { seq, epoch = 0, generation = 1 } = place
  const message = messageId(`${from}-${to}-${seq}`)
  return { generation, epoch, channel: channel(from, to), session: sessionOf(from, to), seq, message }
}

/** A message to `p` from another process, unless `given` says otherwise. */
export function messageTo(
  to: string,
  given: {
    readonly from?: string
    readonly seq: number
    readonly epoch?: number
    readonly generation?: number
    readonly traits?: ChannelTraits
    readonly expectsReply?: boolean
    readonly transactional?: boolean
  },
): Extract<Origin, { kind: 'message' }> {
  const { from = 'q', traits = loose, expectsReply = false, transactional = false, ...place } = given
  return { kind: 'message', stamp: stampOf(from, to, place), traits, expectsReply, transactional }
}

export function replyTo(
  to: string,
  given: { readonly from?: string; readonly seq: number; readonly epoch?: number; readonly awaitedBy: ItemId | null },
): Extract<Origin, { kind: 'reply' }> {
  const { from = 'q', awaitedBy, ...place } = given
  return { kind: 'reply', stamp: stampOf(from, to, place), traits: loose, awaitedBy }
}

export const fromOutside: Origin = { kind: 'outsider', holdable: true, transactional: false }
export const unstoppable: Origin = { kind: 'outsider', holdable: false, transactional: false }
export const ownWork: Origin = { kind: 'process', transactional: false }

type ProcessRole = Extract<Role, { kind: 'process' }>

export interface ProcessRig {
  state: ProcessState
  nowMs: number
  readonly role: ProcessRole
  tell(input: ProcessInput): readonly ProcessEffect[]
  order(order: Order): readonly ProcessEffect[]
  arrive(item: ItemId, origin: Origin): readonly ProcessEffect[]
  finish(item: ItemId): readonly ProcessEffect[]
  send(send: number, to: string, byItem: ItemId | null): readonly ProcessEffect[]
  open(to: string, traits?: ChannelTraits, life?: number): void
  /** Lets the clock show `nowMs`, and tells the machine. */
  tick(nowMs: number): readonly ProcessEffect[]
  prepare(ref?: CutRef): readonly ProcessEffect[]
  quiesce(stage?: HoldStage, leaseMs?: number): readonly ProcessEffect[]
  mark(): readonly ProcessEffect[]
  stateMarked(): readonly ProcessEffect[]
  resume(): readonly ProcessEffect[]
  drain(inbound?: readonly SentAtCut[], deadlineMs?: number): readonly ProcessEffect[]
  release(ref?: CutRef): readonly ProcessEffect[]
  readonly work: CutWork
}

/** A process `p` in generation 1 and epoch 0, with a channel to `q`. */
export function processRig(role: Partial<ProcessRole> = {}): ProcessRig {
  const incarnation = incarnationOf('p-1')
  const rig: ProcessRig = {
    state: initialProcess({ name: nameOf('p'), incarnation, generation: 1, epoch: 0 }),
    nowMs: 0,
    role: { kind: 'process', incarnation, gated: false, owns: [], handlerMs: 100, leaseMs: 1_000, ...role },
    tell(input) {
      const { state, effects } = decideProcess(rig.state, input)
      rig.state = state
      return effects
    },
    order: (order) => rig.tell({ type: 'ordered', order, nowMs: rig.nowMs }),
    arrive: (item, origin) => rig.tell({ type: 'arrived', item, origin, nowMs: rig.nowMs }),
    finish: (item) => rig.tell({ type: 'finished', item, nowMs: rig.nowMs }),
    send(send, to, byItem) {
      const request = { send, channel: channel('p', to), message: messageId(`s${send}`), byItem }
      return rig.tell({ type: 'sendRequested', request, nowMs: rig.nowMs })
    },
    open(to, traits = loose, life = 1) {
      rig.tell({ type: 'sessionOpened', channel: channel('p', to), session: sessionOf('p', to, life), traits })
    },
    tick(nowMs) {
      rig.nowMs = nowMs
      return rig.tell({ type: 'ticked', nowMs })
    },
    prepare: (ref = cutRef) => rig.order({ type: 'prepare', ref, role: rig.role }),
    quiesce: (stage = rig.role.gated ? 'gate' : 'ingress', leaseMs = rig.role.leaseMs) =>
      rig.order({ type: 'quiesce', ref: cutRef, stage, leaseMs }),
    mark: () => rig.order({ type: 'mark', ref: cutRef }),
    stateMarked: () => rig.tell({ type: 'stateMarked', ref: cutRef, nowMs: rig.nowMs }),
    resume: () => rig.order({ type: 'resume', ref: cutRef }),
    drain: (inbound = [], deadlineMs = 500) => rig.order({ type: 'drain', ref: cutRef, inbound, deadlineMs }),
    release: (ref = cutRef) => rig.order({ type: 'release', ref, outcome: 'aborted' }),
    get work() {
      return defined(rig.state.work, 'work')
    },
  }
  rig.open('q')
  return rig
}

/** A process that has been prepared and quiesced. */
export function heldProcess(role: Partial<ProcessRole> = {}): ProcessRig {
  const rig = processRig(role)
  rig.prepare()
  rig.quiesce()
  return rig
}

/** A process that has entered epoch 1 by order. */
export function markedProcess(role: Partial<ProcessRole> = {}): ProcessRig {
  const rig = heldProcess(role)
  rig.mark()
  rig.stateMarked()
  return rig
}

interface Effect {
  readonly type: string
}

/** The facts among effects, in order. */
export function factsOf(
  effects: readonly (Effect | { readonly type: 'report'; readonly fact: Fact })[],
): readonly Fact[] {
  return effects.flatMap((effect) => ('fact' in effect ? [effect.fact] : []))
}

export function factOf<T extends FactType>(effects: readonly Effect[], type: T): Extract<Fact, { type: T }> {
  const isOne = (fact: Fact): fact is Extract<Fact, { type: T }> => fact.type === type
  return defined(factsOf(effects).find(isOne), `a fact "${type}" among ${factsOf(effects).map((fact) => fact.type)}`)
}

/** Effects as short words: what is reported, delivered, sent and so on, in order. */
export function inShort(effects: readonly ProcessEffect[]): readonly string[] {
  return effects.map(wordsOf)
}

function wordsOf(effect: ProcessEffect): string {
  switch (effect.type) {
    case 'report':
      return effect.fact.type === 'failed' ? `failed ${effect.fact.failure.code}` : effect.fact.type
    case 'deliver':
      return `deliver ${effect.item}`
    case 'refuse':
      return `refuse ${effect.item}: ${effect.reason}`
    case 'send':
      return `send ${effect.send} in epoch ${effect.stamp.epoch}`
    case 'sendRefused':
      return `sendRefused ${effect.send}`
    case 'record':
      return `record ${effect.seq}`
    case 'sendMarker':
      return `sendMarker ${effect.stamp.epoch}`
    case 'markState':
    case 'capture':
    case 'dropMark':
      return effect.type
  }
}

/** What the sender of a channel to `p` says that it had sent at its cut. */
export function sentTo(
  to: string,
  sent: number,
  given: Partial<SentAtCut> & { readonly from?: string } = {},
): SentAtCut {
  const { from = 'q', ...rest } = given
  return { channel: channel(from, to), session: sessionOf(from, to), ...loose, sent, uncertain: [], ...rest }
}
