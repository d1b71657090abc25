/**
 * The verdict: a pure function of the certificate. Whoever has the snapshot can run it again, and trusts nobody's word
 * but the evidence's.
 *
 * `consistent` needs every rule below to hold. Each rule cites the invariant that it checks, and every finding says
 * who and what, so that a verdict can be argued with.
 */
import { channelEnds, type ParticipantName } from '../kernel/ids.ts'
import type { Certificate, ProcessEvidence } from './certificate.ts'
import type { Drained, SentAtCut } from './messages.ts'
import { type Plan, participantOf, processesOf, storesOf } from './plan.ts'
import { addReceived, hasReceived, missingFrom, nothingReceived } from './received.ts'

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
  checkPresence(certificate, findings)
  checkOrder(certificate, findings)
  checkHolds(certificate, findings)
  checkStores(certificate, findings)
  for (const [name, evidence] of Object.entries(certificate.processes)) {
    checkProcess(certificate.plan, name, evidence, findings)
  }
  checkChannels(certificate, findings)
  const { broken, lost } = findings
  if (broken.length > 0) return { kind: 'inconsistent', reasons: [...broken, ...lost] }
  return lost.length > 0 ? { kind: 'crash-consistent', reasons: lost } : { kind: 'consistent', reasons: [] }
}

/** Everybody of the plan, and nobody else, with a tree (C6). */
function checkPresence({ plan, processes, stores, trees }: Certificate, { broken }: Findings): void {
  for (const { kind, name } of plan.participants) {
    if ((kind === 'process' ? processes : stores)[name] === undefined)
      broken.push(`${name}: there is no evidence of it`)
    if (trees[name] === undefined) broken.push(`${name}: nothing of it was captured`)
  }
  for (const name of [...Object.keys(processes), ...Object.keys(stores)]) {
    if (participantOf(plan, name as ParticipantName) === undefined) broken.push(`${name}: is not in the plan`)
  }
}

/** C4: no order to mark before every hold; C3: no order to resume before every mark. By the coordinator's own order. */
function checkOrder({ plan, steps }: Certificate, { broken }: Findings): void {
  const valid = new Map<string, number>()
  const marked = new Set<string>()
  for (const step of steps) {
    switch (step.step) {
      case 'held':
        valid.set(step.participant, step.hold)
        break
      case 'reopened':
        if (valid.get(step.participant) === step.hold) valid.delete(step.participant)
        break
      case 'markOrdered':
        for (const name of mustBeHeld(plan)) {
          if (!valid.has(name)) broken.push(`${step.participant}: ordered to mark before ${name} was held (C4)`)
        }
        break
      case 'marked':
        marked.add(step.participant)
        break
      case 'resumeOrdered':
        for (const { name } of plan.participants) {
          if (!marked.has(name)) broken.push(`${step.participant}: resumed before ${name} had marked (C3)`)
        }
        break
      case 'resumed':
        break
    }
  }
  for (const { name } of plan.participants) if (!marked.has(name)) broken.push(`${name}: did not mark`)
}

/** Those whose hold every mark waits for: all processes, and the stores with unknown writers. */
export function mustBeHeld(plan: Plan): readonly ParticipantName[] {
  const stores = storesOf(plan).filter(({ grade }) => grade === 'quiesced')
  return [...processesOf(plan), ...stores].map(({ name }) => name)
}

/** C5: a hold that may have ended is no hold. */
function checkHolds({ plan, processes, stores }: Certificate, { broken }: Findings): void {
  for (const name of mustBeHeld(plan)) {
    const evidence = processes[name] ?? stores[name]
    if (evidence === undefined) continue // Found missing above.
    const { hold, holdReliedOn } = evidence
    if (hold.unbroken !== true)
      broken.push(`${name}: its hold may have ended early (C5)${hold.detail ? `: ${hold.detail}` : ''}`)
    else if (hold.hold !== holdReliedOn)
      broken.push(`${name}: was held again after the hold that the marks relied on (C5)`)
  }
}

function checkStores({ plan, stores }: Certificate, { broken }: Findings): void {
  for (const store of storesOf(plan)) {
    const evidence = stores[store.name]
    if (evidence === undefined) continue
    if (evidence.mark.grade !== store.grade) {
      broken.push(`${store.name}: marked as ${evidence.mark.grade}, planned as ${store.grade}`)
    }
    for (const caveat of evidence.mark.caveats) broken.push(`${store.name}: ${caveat}`)
    for (const part of evidence.torn) broken.push(`${store.name}: ${part} changed between the mark and its capture`)
  }
}

const cutOffWords = {
  deadline: 'still ran at the mark',
  reply: 'was cut off by a reply of the new epoch',
  gate: 'ran on after its gate had to close',
} as const

function checkProcess(plan: Plan, name: string, { mark }: ProcessEvidence, { broken, lost }: Findings): void {
  const planned = processesOf(plan).find((process) => process.name === name)
  if (planned === undefined) return // Found above.
  if (mark.incarnation !== planned.incarnation) broken.push(`${name}: marked by another incarnation (C8)`)
  if (mark.epochEntered !== plan.epoch) broken.push(`${name}: entered epoch ${mark.epochEntered}, not ${plan.epoch}`)
  if (mark.uncolouredHandled > 0) {
    broken.push(
      `${name}: handled ${mark.uncolouredHandled} messages from outside while its ingress should have been held`,
    )
  }
  for (const { channel, epochMax } of mark.received) {
    if (epochMax >= plan.epoch)
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

/** C2: what was sent before the cut was received in it, or is recorded, exactly once. What is neither is named. */
function checkChannels({ plan, processes }: Certificate, findings: Findings): void {
  for (const [sender, { mark }] of Object.entries(processes)) {
    for (const sent of mark.sent) {
      const { from, to } = channelEnds(sent.channel)
      if (from !== sender) findings.broken.push(`${sender}: reports what ${from} sent on ${sent.channel}`)
      const receiver = processes[to]
      if (receiver !== undefined) checkSession(sent, receiver, findings)
      else if (participantOf(plan, to) === undefined && sent.sent > 0) {
        findings.lost.push(`${sent.channel}: its receiver takes no part in this cut`)
      }
    }
  }
}

function checkSession(sent: SentAtCut, receiver: ProcessEvidence, { broken, lost }: Findings): void {
  const isSame = (one: { channel: string; session: string }): boolean =>
    one.channel === sent.channel && one.session === sent.session
  const received = receiver.mark.received.find(isSame)?.received ?? nothingReceived
  const drained: Drained | undefined = receiver.drained.find(isSame)
  let here = received
  for (const { seq } of drained?.recorded ?? []) {
    if (hasReceived(here, seq))
      broken.push(`${sent.channel}: message ${seq} is received and recorded, or recorded twice (C2)`)
    here = addReceived(here, seq)
  }
  const beyond = here.beyond.at(-1) ?? here.upTo
  if (Math.max(beyond, here.upTo) > sent.sent) {
    broken.push(`${sent.channel}: message ${Math.max(beyond, here.upTo)} was received and had not been sent (C1)`)
  }
  const missing = missingFrom(here, sent.sent)
  if (missing.length === 0) return
  const text = `${sent.channel}: ${missing.length} of ${sent.sent} messages were neither received nor recorded`
  const isExplained = sent.volatile || missing.every((seq) => sent.uncertain.includes(seq))
  if (isExplained) lost.push(`${text}, as in a crash`)
  else broken.push(`${text} (C2)`)
}
