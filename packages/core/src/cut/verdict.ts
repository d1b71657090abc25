/**
 * The verdict: a pure function of the certificate. Whoever has the snapshot can run it again, and trusts nobody's word
 * but the evidence's.
 *
 * `consistent` needs every rule below to hold. Each rule cites the invariant that it checks, and every finding says
 * who and what, so that a verdict can be argued with.
 */

import { unreachable } from '../kernel/assert.ts'
import { describeFailure, Failure } from '../kernel/failure.ts'
import { channelEnds, type ParticipantName } from '../kernel/ids.ts'
import type { Certificate, ProcessEvidence, StoreEvidence } from './certificate.ts'
import type { Drained, ProcessMark, Received, SentAtCut } from './messages.ts'
import { type ParticipantPlan, type Plan, processesOf, type StorePlan, storesOf } from './plan.ts'
import { sessionKey } from './process-state.ts'
import { addReceived, countMissing, hasReceived, missingFrom, nothingReceived } from './received.ts'

export type Verdict =
  | { readonly kind: 'consistent'; readonly reasons: readonly string[] }
  /** As after a crash at one instant: what was lost or cut off is stated, one by one. */
  | { readonly kind: 'crash-consistent'; readonly reasons: readonly string[] }
  | { readonly kind: 'inconsistent'; readonly reasons: readonly string[] }

interface Findings {
  readonly broken: string[]
  readonly lost: string[]
}

/** Recomputes the verdict from the evidence. Total: a certificate with holes is `inconsistent`, never an exception. */
export function verdictOf(certificate: Certificate): Verdict {
  const findings: Findings = { broken: [], lost: [] }
  read('the certificate', findings, () => {
    wholeNumber(certificate.plan.epoch, 'the epoch of the plan')
    checkPresence(certificate, findings)
    checkOrder(certificate, findings)
    checkHolds(certificate, findings)
    checkStores(certificate, findings)
    const planned = new Map<string, ParticipantPlan>(certificate.plan.participants.map((one) => [one.name, one]))
    const sessions = new Sessions(certificate)
    for (const [name, evidence] of Object.entries(certificate.processes)) {
      read(name, findings, () => checkProcess(certificate.plan, planned.get(name), evidence, findings))
      read(name, findings, () => checkStrangers(name, evidence, planned, findings))
      read(name, findings, () => checkChannels(planned, sessions, { name, evidence }, findings))
    }
  })
  const { broken, lost } = findings
  if (broken.length > 0) return { kind: 'inconsistent', reasons: [...broken, ...lost] }
  return lost.length > 0 ? { kind: 'crash-consistent', reasons: lost } : { kind: 'consistent', reasons: [] }
}

/**
 * A certificate comes from outside, perhaps damaged: what cannot be read is a finding against its owner. The checks are
 * pure, so nothing else is swallowed here.
 */
function read(owner: string, { broken }: Findings, check: () => void): void {
  try {
    check()
  } catch (error) {
    broken.push(`${owner}: its evidence cannot be read: ${describeFailure(error).message}`)
  }
}

/** A number that is not there compares as false with everything: unchecked, a hole would pass every rule. */
function wholeNumber(value: unknown, what: string): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value
  throw new Failure({ code: 'certificate_invalid', message: `${what} is ${JSON.stringify(value)}, not a whole number` })
}

/** The record's own entry: a participant may be called `constructor`. */
function ownOf<T>(record: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(record, name) ? record[name] : undefined
}

/** Everybody of the plan, and nobody else, with a tree (C6). */
function checkPresence({ plan, processes, stores, trees }: Certificate, { broken }: Findings): void {
  for (const { kind, name } of plan.participants) {
    const evidence = kind === 'process' ? ownOf(processes, name) : ownOf(stores, name)
    if (evidence === undefined) broken.push(`${name}: there is no evidence of it`)
    if (ownOf(trees, name) === undefined) broken.push(`${name}: nothing of it was captured`)
  }
  const planned = new Set<string>(plan.participants.map(({ name }) => name))
  for (const name of [...Object.keys(processes), ...Object.keys(stores)]) {
    if (!planned.has(name)) broken.push(`${name}: is not in the plan`)
  }
}

/** C4: no order to mark before every hold; C3: no order to resume before every mark. By the coordinator's own order. */
function checkOrder(certificate: Certificate, { broken }: Findings): void {
  const { plan, steps } = certificate
  const must = mustBeHeld(plan)
  const held = new Map<string, number>()
  /** Who is not held, and who has not marked: mostly nobody, when it matters. */
  const unheld = new Set<string>(must)
  const unmarked = new Set<string>(plan.participants.map(({ name }) => name))
  const ordered = new Set<string>()
  const letGo = new Set<string>()
  for (const step of steps) {
    const who = step.participant
    switch (step.step) {
      case 'held':
        held.set(who, wholeNumber(step.hold, `the hold of ${who}`))
        unheld.delete(who)
        break
      case 'reopened':
        if (held.get(who) !== step.hold) break
        held.delete(who)
        unheld.add(who)
        if (ordered.size > 0) broken.push(`${who}: reopened its gate after the marks had been ordered (C5)`)
        break
      case 'markOrdered':
        ordered.add(who)
        for (const name of unheld) broken.push(`${who}: ordered to mark before ${name} was held (C4)`)
        break
      case 'marked':
        unmarked.delete(who)
        if (!ordered.has(who)) broken.push(`${who}: marked before it was ordered to (C4)`)
        break
      case 'resumeOrdered':
        letGo.add(who)
        for (const name of unmarked) broken.push(`${who}: resumed before ${name} had marked (C3)`)
        break
      case 'resumed':
        if (!letGo.has(who)) broken.push(`${who}: was let go before it was ordered to resume (C5)`)
        break
      default:
        unreachable(step)
    }
  }
  for (const name of unmarked) broken.push(`${name}: did not mark`)
  for (const name of must) {
    if (!letGo.has(name)) broken.push(`${name}: was never ordered to resume (C3)`)
    const reliedOn = evidenceOf(certificate, name)?.holdReliedOn
    if (reliedOn !== undefined && held.get(name) !== reliedOn) {
      broken.push(`${name}: the marks relied on hold ${reliedOn}, which is not the one that it acknowledged last (C5)`)
    }
  }
}

function evidenceOf({ processes, stores }: Certificate, name: string): ProcessEvidence | StoreEvidence | undefined {
  return ownOf(processes, name) ?? ownOf(stores, name)
}

/** Those whose hold every mark waits for: all processes, and the stores with unknown writers. */
export function mustBeHeld(plan: Plan): readonly ParticipantName[] {
  const stores = storesOf(plan).filter(({ grade }) => grade === 'quiesced')
  return [...processesOf(plan), ...stores].map(({ name }) => name)
}

/** C5: a hold that may have ended is no hold. */
function checkHolds(certificate: Certificate, findings: Findings): void {
  for (const name of mustBeHeld(certificate.plan)) {
    const evidence = evidenceOf(certificate, name)
    if (evidence === undefined) continue // Found missing above.
    read(name, findings, () => checkHold(name, evidence, findings))
  }
}

function checkHold(name: string, { hold, holdReliedOn }: ProcessEvidence | StoreEvidence, { broken }: Findings): void {
  if (hold.unbroken !== true)
    broken.push(`${name}: its hold may have ended early (C5)${hold.detail ? `: ${hold.detail}` : ''}`)
  else if (wholeNumber(hold.hold, 'the number of the hold') !== holdReliedOn)
    broken.push(`${name}: was held again after the hold that the marks relied on (C5)`)
}

function checkStores({ plan, stores }: Certificate, findings: Findings): void {
  for (const store of storesOf(plan)) {
    const evidence = ownOf(stores, store.name)
    if (evidence !== undefined) read(store.name, findings, () => checkStore(store, evidence, findings))
  }
}

function checkStore(store: StorePlan, evidence: StoreEvidence, { broken }: Findings): void {
  if (evidence.mark.grade !== store.grade) {
    broken.push(`${store.name}: marked as ${evidence.mark.grade}, planned as ${store.grade}`)
  }
  for (const caveat of evidence.mark.caveats) broken.push(`${store.name}: ${caveat}`)
  for (const part of evidence.torn) broken.push(`${store.name}: ${part} changed between the mark and its capture`)
}

const cutOffWords = {
  deadline: 'still ran at the mark',
  reply: 'was cut off by a reply of the new epoch',
  gate: 'ran on after its gate had to close',
} as const

function checkProcess(
  plan: Plan,
  planned: ParticipantPlan | undefined,
  { mark }: ProcessEvidence,
  { broken, lost }: Findings,
): void {
  if (planned?.kind !== 'process') return // Found above.
  const { name } = planned
  if (mark.incarnation !== planned.incarnation) broken.push(`${name}: marked by another incarnation (C8)`)
  if (mark.epochEntered !== plan.epoch) broken.push(`${name}: entered epoch ${mark.epochEntered}, not ${plan.epoch}`)
  if (wholeNumber(mark.uncolouredHandled, 'the count of uncoloured messages') > 0) {
    broken.push(
      `${name}: handled ${mark.uncolouredHandled} messages from outside while its ingress should have been held`,
    )
  }
  for (const { channel, epochMax } of mark.received) {
    if (wholeNumber(epochMax, `the greatest epoch on ${channel}`) >= plan.epoch)
      broken.push(`${name}: received a message of epoch ${epochMax} on ${channel} before its mark (C1)`)
  }
  for (const handler of mark.openHandlers) {
    // Delivered again at a restore, exactly. One that ended before the mark is not delivered again.
    if (handler.transactional && handler.startedBy === 'message' && handler.cutOffBy !== 'gate') continue
    const what =
      handler.message === undefined
        ? `a handler started by ${handler.startedBy}`
        : `the handler of message ${handler.message}`
    lost.push(`${name}: ${what} ${cutOffWords[handler.cutOffBy]}`)
  }
}

/** C4: whoever takes no part in the cut has not been held for it. What it said belongs to no side of the cut. */
function checkStrangers(
  name: string,
  { mark, drained }: ProcessEvidence,
  planned: ReadonlyMap<string, ParticipantPlan>,
  { broken }: Findings,
): void {
  const isPlanned = (sender: string): boolean => planned.get(sender)?.kind === 'process'
  for (const finding of strangersHeard(mark, isPlanned)) broken.push(`${name}: ${finding} (C4)`)
  for (const { channel, recorded } of drained) {
    if (recorded.length > 0 && !isPlanned(channelEnds(channel).from)) {
      broken.push(
        `${channel}: ${recorded.length} messages of a sender that takes no part in this cut are recorded (C4)`,
      )
    }
  }
}

/**
 * What a process heard, between its hold and its mark, of processes that take no part in the cut (ADR 0008). Nobody
 * holds those: the first of them that is heard may have learnt what happened after somebody's mark, or may be ahead of
 * the order to mark. What the evidence does not say is not believed.
 */
export function strangersHeard(mark: ProcessMark, isPlanned: (sender: ParticipantName) => boolean): readonly string[] {
  const found: string[] = []
  const { enteredBy, enteredFrom } = mark
  if (enteredBy !== 'order' && enteredFrom === undefined)
    found.push('does not say whose message made it enter the epoch')
  if (enteredFrom !== undefined && !isPlanned(enteredFrom)) {
    found.push(`entered the epoch by a ${enteredBy} of "${enteredFrom}", which takes no part in this cut`)
  }
  for (const { channel, heardWhileHeld } of mark.received) {
    const { from } = channelEnds(channel)
    if (heardWhileHeld !== false && !isPlanned(from)) {
      found.push(`was held, and handled messages of "${from}", which takes no part in this cut`)
    }
  }
  return found
}

/** What the processes say of the sessions in which they received, by session. */
class Sessions {
  readonly #certificate: Certificate
  readonly #known = new Map<string, ReadonlyMap<string, { received?: Received; drained?: Drained }>>()

  constructor(certificate: Certificate) {
    this.#certificate = certificate
  }

  /** `undefined` where there is no evidence of the receiver at all. */
  of(receiver: string): ReadonlyMap<string, { received?: Received; drained?: Drained }> | undefined {
    const known = this.#known.get(receiver)
    const evidence = ownOf(this.#certificate.processes, receiver)
    if (known !== undefined || evidence === undefined) return known
    const sessions = new Map<string, { received?: Received; drained?: Drained }>()
    // Where a session is there twice, its first evidence counts.
    for (const drained of evidence.drained.toReversed()) {
      sessions.set(sessionKey(drained.channel, drained.session), { drained })
    }
    for (const { channel, session, received } of evidence.mark.received.toReversed()) {
      const key = sessionKey(channel, session)
      sessions.set(key, { ...sessions.get(key), received })
    }
    this.#known.set(receiver, sessions)
    return sessions
  }
}

/** C2: what was sent before the cut was received in it, or is recorded, exactly once. What is neither is named. */
function checkChannels(
  planned: ReadonlyMap<string, ParticipantPlan>,
  sessions: Sessions,
  sender: { readonly name: string; readonly evidence: ProcessEvidence },
  findings: Findings,
): void {
  for (const sent of sender.evidence.mark.sent) {
    wholeNumber(sent.sent, `the count of messages sent on ${sent.channel}`)
    const { from, to } = channelEnds(sent.channel)
    if (from !== sender.name) findings.broken.push(`${sender.name}: reports what ${from} sent on ${sent.channel}`)
    let isKnown = true
    read(to, findings, () => {
      const received = sessions.of(to)
      isKnown = received !== undefined
      if (received !== undefined) checkSession(sent, received.get(sessionKey(sent.channel, sent.session)), findings)
    })
    if (!isKnown && !planned.has(to) && sent.sent > 0) {
      findings.lost.push(`${sent.channel}: its receiver takes no part in this cut`)
    }
  }
}

function checkSession(
  sent: SentAtCut,
  found: { readonly received?: Received; readonly drained?: Drained } | undefined,
  { broken, lost }: Findings,
): void {
  const received = checked(found?.received ?? nothingReceived, sent.channel)
  const drained = found?.drained
  let here = received
  for (const { seq } of drained?.recorded ?? []) {
    if (hasReceived(here, wholeNumber(seq, `a recorded message of ${sent.channel}`)))
      broken.push(`${sent.channel}: message ${seq} is received and recorded, or recorded twice (C2)`)
    here = addReceived(here, seq)
  }
  const newest = here.beyond.reduce((a, b) => Math.max(a, b), here.upTo)
  if (newest > sent.sent) broken.push(`${sent.channel}: message ${newest} was received and had not been sent (C1)`)
  const missingCount = countMissing(here, sent.sent)
  if (missingCount === 0) return
  // One more than could be explained is enough to know: a certificate from elsewhere may claim any count.
  const missing = missingFrom(here, sent.sent, sent.uncertain.length + 1)
  const text = `${sent.channel}: ${missingCount} of ${sent.sent} messages were neither received nor recorded`
  const isExplained = sent.volatile || missing.every((seq) => sent.uncertain.includes(seq))
  if (isExplained) lost.push(`${text}, as in a crash`)
  else broken.push(`${text} (C2)`)
}

function checked(received: Received, channel: string): Received {
  let before = wholeNumber(received.upTo, `a message received on ${channel}`) + 1
  for (const seq of received.beyond) {
    if (wholeNumber(seq, `a message received on ${channel}`) <= before) {
      const message = `the messages received on ${channel} are not in ascending order: ${seq} after ${before}`
      throw new Failure({ code: 'certificate_invalid', message })
    }
    before = seq
  }
  return received
}
