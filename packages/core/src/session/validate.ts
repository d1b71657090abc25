/**
 * From bytes of the network to the types of the protocol: every frame, order and fact passes here before anything
 * acts on it. Hand-written, without a dependency, because it runs inside every service that installs the SDK.
 *
 * Owns: the shape. Does not own: whether it makes sense now (the state machines decide that), nor who sent it.
 */

import type {
  CaptureEvidence,
  CutRef,
  Drained,
  Fact,
  HoldEvidence,
  MarkEvidence,
  OpenHandler,
  Order,
  ProcessMark,
  Received,
  ReceivedAtCut,
  Recorded,
  Role,
  SentAtCut,
  Stamp,
  StoreMark,
} from '../cut/messages.ts'
import { cutOffReasons } from '../cut/messages.ts'
import { describeFailure, Failure, type FailureReport } from '../kernel/failure.ts'
import {
  type ChannelId,
  type CutId,
  channelEnds,
  type Incarnation,
  type MessageId,
  type ParticipantName,
  participantName,
  type SessionId,
  type TreeId,
} from '../kernel/ids.ts'
import type { ProcessFrame, RecordedMessage, RestoreContents, RestoreOffer, ServerFrame } from './frames.ts'
import { sessionProtocolVersion } from './frames.ts'
import {
  count,
  fieldsOf,
  flag,
  id,
  invalid,
  listOf,
  longText,
  millis,
  nullable,
  objectOf,
  oneOf,
  optional,
  type Reader,
  recordOf,
  taggedBy,
  text,
} from './shape.ts'

/** The building blocks, for protocols that live elsewhere (between two processes). */
export * as shape from './shape.ts'

export const readName: Reader<ParticipantName> = (value, path) => {
  try {
    return participantName(text(value, path))
  } catch (cause) {
    throw new Failure({ code: 'frame_invalid', message: `${path}: ${describeFailure(cause).message}`, cause })
  }
}

export const readChannel: Reader<ChannelId> = (value, path) => {
  const found = id(value, path)
  try {
    channelEnds(found as ChannelId)
  } catch (cause) {
    throw new Failure({ code: 'frame_invalid', message: `${path}: ${describeFailure(cause).message}`, cause })
  }
  return found as ChannelId
}

// A brand says only that the text has been through here.
export const readCutId: Reader<CutId> = (value, path) => id(value, path) as CutId
export const readIncarnation: Reader<Incarnation> = (value, path) => id(value, path) as Incarnation
export const readSession: Reader<SessionId> = (value, path) => id(value, path) as SessionId
export const readMessage: Reader<MessageId> = (value, path) => id(value, path) as MessageId

const tree: Reader<TreeId> = (value, path) => {
  const found = text(value, path)
  if (!/^[0-9a-f]{64}$/.test(found)) throw invalid(path, 'a tree id of 64 hexadecimal digits', value)
  return found as TreeId
}

/** Numbers of messages, ascending and each once, as the state machines rely on. */
const ascending: Reader<readonly number[]> = (value, path) => {
  const found = listOf(count)(value, path)
  if (found.some((seq, index) => index > 0 && seq <= (found[index - 1] ?? 0))) {
    throw invalid(path, 'a list in ascending order', value)
  }
  return found
}

const received: Reader<Received> = (value, path) => {
  const found = objectOf<Received>({ upTo: count, beyond: ascending })(value, path)
  const first = found.beyond[0]
  if (first !== undefined && first <= found.upTo + 1) throw invalid(`${path}.beyond`, 'greater than upTo + 1', value)
  return found
}

const literal = <const T extends string>(tag: T): Reader<T> => oneOf(tag)

const cutRef = objectOf<CutRef>({ cut: readCutId, epoch: count, generation: count, fencing: count })

export const readFailureReport: Reader<FailureReport> = objectOf<FailureReport>({
  code: text,
  message: longText,
  hint: optional(longText),
  retry: oneOf('never', 'later'),
})

export const readStamp: Reader<Stamp> = objectOf<Stamp>({
  generation: count,
  epoch: count,
  channel: readChannel,
  session: readSession,
  seq: count,
  message: readMessage,
})

const sentAtCut = objectOf<SentAtCut>({
  channel: readChannel,
  session: readSession,
  fifo: flag,
  volatile: flag,
  sent: count,
  uncertain: ascending,
})

const receivedAtCut = objectOf<ReceivedAtCut>({
  channel: readChannel,
  session: readSession,
  received,
  epochMax: count,
  heardWhileHeld: optional(flag),
})

const openHandler = objectOf<OpenHandler>({
  startedBy: oneOf('message', 'outsider', 'process'),
  message: optional(readMessage),
  channel: optional(readChannel),
  transactional: flag,
  cutOffBy: oneOf(...cutOffReasons),
})

const position: Reader<string | number> = (value, path) => {
  if (typeof value === 'number' && Number.isFinite(value)) return value
  return longText(value, path)
}

const markEvidence = taggedBy<MarkEvidence>('kind', {
  process: objectOf<ProcessMark>({
    kind: literal('process'),
    incarnation: readIncarnation,
    epochEntered: count,
    enteredBy: oneOf('order', 'message', 'marker'),
    enteredFrom: optional(readName),
    sent: listOf(sentAtCut),
    received: listOf(receivedAtCut),
    openHandlers: listOf(openHandler),
    uncolouredHandled: count,
    gateMs: millis,
  }),
  store: objectOf<StoreMark>({
    kind: literal('store'),
    incarnation: readIncarnation,
    grade: oneOf('owned', 'gated', 'quiesced'),
    position: recordOf(position),
    caveats: listOf(longText),
    heldAtMs: nullable(millis),
    markedAtMs: millis,
  }),
})

const holdEvidence = objectOf<HoldEvidence>({
  unbroken: nullable(flag),
  hold: count,
  heldMs: millis,
  detail: optional(longText),
})

const drained = objectOf<Drained>({
  channel: readChannel,
  session: readSession,
  recorded: listOf(objectOf<Recorded>({ seq: count, message: readMessage })),
  missing: ascending,
  endedBy: oneOf('counts', 'marker', 'deadline'),
})

/** @throws Failure `frame_invalid` */
export const readCaptureEvidence: Reader<CaptureEvidence> = objectOf<CaptureEvidence>({
  tree,
  bytes: count,
  files: count,
  torn: listOf(longText),
  notes: listOf(longText),
  channels: recordOf(tree),
})

const role = taggedBy<Role>('kind', {
  process: objectOf<Extract<Role, { kind: 'process' }>>({
    kind: literal('process'),
    incarnation: readIncarnation,
    gated: flag,
    owns: listOf(readName),
    handlerMs: millis,
    leaseMs: millis,
  }),
  store: objectOf<Extract<Role, { kind: 'store' }>>({
    kind: literal('store'),
    grade: oneOf('owned', 'gated', 'quiesced'),
    leaseMs: millis,
  }),
})

const holdStage = oneOf('ingress', 'gate', 'store')
type OrderOf<T extends Order['type']> = Extract<Order, { type: T }>

/** @throws Failure `frame_invalid` */
export const readOrder: Reader<Order> = taggedBy<Order>('type', {
  prepare: objectOf<OrderOf<'prepare'>>({ type: literal('prepare'), ref: cutRef, role }),
  quiesce: objectOf<OrderOf<'quiesce'>>({ type: literal('quiesce'), ref: cutRef, stage: holdStage, leaseMs: millis }),
  mark: objectOf<OrderOf<'mark'>>({ type: literal('mark'), ref: cutRef }),
  ownedMarked: objectOf<OrderOf<'ownedMarked'>>({ type: literal('ownedMarked'), ref: cutRef }),
  resume: objectOf<OrderOf<'resume'>>({ type: literal('resume'), ref: cutRef }),
  drain: objectOf<OrderOf<'drain'>>({
    type: literal('drain'),
    ref: cutRef,
    inbound: listOf(sentAtCut),
    deadlineMs: millis,
  }),
  capture: objectOf<OrderOf<'capture'>>({ type: literal('capture'), ref: cutRef }),
  release: objectOf<OrderOf<'release'>>({
    type: literal('release'),
    ref: cutRef,
    outcome: oneOf('sealed', 'aborted'),
    reason: optional(longText),
  }),
})

type FactOf<T extends Fact['type']> = Extract<Fact, { type: T }>

/** @throws Failure `frame_invalid` */
export const readFact: Reader<Fact> = taggedBy<Fact>('type', {
  ready: objectOf<FactOf<'ready'>>({
    type: literal('ready'),
    ref: cutRef,
    incarnation: readIncarnation,
    estimateBytes: count,
    version: text,
    notes: listOf(longText),
  }),
  held: objectOf<FactOf<'held'>>({ type: literal('held'), ref: cutRef, stage: holdStage, hold: count }),
  reopened: objectOf<FactOf<'reopened'>>({ type: literal('reopened'), ref: cutRef, hold: count }),
  entering: objectOf<FactOf<'entering'>>({ type: literal('entering'), ref: cutRef }),
  marked: objectOf<FactOf<'marked'>>({ type: literal('marked'), ref: cutRef, evidence: markEvidence }),
  resumed: objectOf<FactOf<'resumed'>>({ type: literal('resumed'), ref: cutRef, evidence: holdEvidence }),
  drained: objectOf<FactOf<'drained'>>({ type: literal('drained'), ref: cutRef, inbound: listOf(drained) }),
  captureProgressed: objectOf<FactOf<'captureProgressed'>>({
    type: literal('captureProgressed'),
    ref: cutRef,
    bytes: count,
    files: count,
  }),
  captured: objectOf<FactOf<'captured'>>({ type: literal('captured'), ref: cutRef, evidence: readCaptureEvidence }),
  released: objectOf<FactOf<'released'>>({ type: literal('released'), ref: cutRef }),
  failed: objectOf<FactOf<'failed'>>({
    type: literal('failed'),
    ref: cutRef,
    during: oneOf('prepare', 'quiesce', 'mark', 'ownedMarked', 'resume', 'drain', 'capture', 'release'),
    failure: readFailureReport,
  }),
})

const offer = objectOf<RestoreOffer>({ restore: id, snapshot: id, generation: count, epoch: count })

type ProcessFrameOf<T extends ProcessFrame['type']> = Extract<ProcessFrame, { type: T }>
type ServerFrameOf<T extends ServerFrame['type']> = Extract<ServerFrame, { type: T }>

/** @throws Failure `frame_invalid` */
export const readProcessFrame: Reader<ProcessFrame> = taggedBy<ProcessFrame>('type', {
  hello: objectOf<ProcessFrameOf<'hello'>>({
    type: literal('hello'),
    version: oneOf(sessionProtocolVersion),
    participant: readName,
    incarnation: readIncarnation,
    generation: nullable(count),
    epoch: count,
    sdkVersion: text,
  }),
  fact: objectOf<ProcessFrameOf<'fact'>>({ type: literal('fact'), fact: readFact }),
  restored: objectOf<ProcessFrameOf<'restored'>>({ type: literal('restored'), restore: id }),
  restoreFailed: objectOf<ProcessFrameOf<'restoreFailed'>>({
    type: literal('restoreFailed'),
    restore: id,
    failure: readFailureReport,
  }),
})

/** @throws Failure `frame_invalid` */
export const readServerFrame: Reader<ServerFrame> = taggedBy<ServerFrame>('type', {
  welcome: objectOf<ServerFrameOf<'welcome'>>({
    type: literal('welcome'),
    system: text,
    generation: count,
    epoch: count,
    agentUrl: text,
    restore: nullable(offer),
  }),
  refused: objectOf<ServerFrameOf<'refused'>>({ type: literal('refused'), failure: readFailureReport }),
  order: objectOf<ServerFrameOf<'order'>>({ type: literal('order'), order: readOrder }),
  restore: objectOf<ServerFrameOf<'restore'>>({ type: literal('restore'), offer }),
})

/** @throws Failure `frame_invalid` */
export const readRestoreContents: Reader<RestoreContents> = objectOf<RestoreContents>({
  parts: listOf(text),
  channels: listOf(readChannel),
})

/** One line of a channel's state. @throws Failure `frame_invalid` */
export const readRecordedMessage: Reader<RecordedMessage> = objectOf<RecordedMessage>({
  message: readMessage,
  session: readSession,
  seq: count,
  epoch: count,
  kind: oneOf('message', 'request', 'reply'),
  meta: recordOf(longText),
  encoding: oneOf('utf8', 'base64'),
  payload: longText,
})

/**
 * Text to a typed value, by one of the readers above.
 * @param what names the text in the failure: `frame from "orders"`
 * @throws Failure `frame_invalid`
 */
export function parseFrame<T>(json: string, reader: Reader<T>, what: string): T {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (cause) {
    throw new Failure({ code: 'frame_invalid', message: `${what} is not JSON`, cause })
  }
  try {
    return reader(value, '')
  } catch (cause) {
    const type = typeof value === 'object' && value !== null ? fieldsOf(value, '')['type'] : undefined
    const named = typeof type === 'string' ? `${what} ("${type.slice(0, 40)}")` : what
    throw new Failure({ code: 'frame_invalid', message: `${named}: ${describeFailure(cause).message}`, cause })
  }
}
