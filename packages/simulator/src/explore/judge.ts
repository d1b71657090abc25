/**
 * Judges of an explored world. They look at what really happened (marks, fates of messages, balances), and of the
 * protocol only at what it says to the outside: the certificate and the outcome.
 */
import { type Certificate, verdictOf } from '@stillpoint/core'
import type { Fate, World } from './model.ts'

/** Called at the instant at which a snapshot begins to exist. */
export function sealedFindings(world: World, certificate: Certificate): readonly string[] {
  const verdict = verdictOf(certificate)
  const findings: string[] = []
  if (world.snapshots > 0) findings.push('C6: sealed twice')
  if (world.records.some((record) => record.type === 'ended')) findings.push('C6: sealed after an outcome was recorded')
  if (verdict.kind === 'inconsistent' && !world.plan.allowInconsistent) findings.push('C6: sealed though inconsistent')
  const cutOff = Object.values(certificate.processes).flatMap(({ mark }) => mark.openHandlers)
  const isExempt = cutOff.length > 0 && verdict.kind !== 'consistent'
  for (const { cutOffBy } of cutOff) {
    // A reply that comes with the new epoch cuts a handler off in any world; a deadline needs a reason.
    if (cutOffBy !== 'reply' && world.trouble === 0)
      findings.push('a handler was waited for in vain, and nothing had gone wrong')
  }
  const redelivered = new Set<string>(cutOff.flatMap(({ message }) => (message === undefined ? [] : [message])))
  if (!isExempt) findings.push(...closureFindings(world))
  for (const fate of world.fates) {
    if (!redelivered.has(`m${fate.id}`)) findings.push(...fateFindings(fate, verdict.kind))
  }
  if (verdict.kind === 'consistent') findings.push(...conservationFindings(world))
  if (verdict.kind !== 'consistent' && cutOff.length === 0 && !world.fates.some(({ isLost }) => isLost)) {
    findings.push(`the verdict is ${verdict.kind}, and the world has no reason for it: ${verdict.reasons.join('; ')}`)
  }
  return findings
}

function closureFindings({ processes, stores, plan, isTainted }: World): readonly string[] {
  const findings: string[] = []
  if (isTainted)
    findings.push('not closed under happens-before: a recorded message knows what somebody did after its mark')
  for (const [name, { marked }] of [...Object.entries(processes), ...Object.entries(stores)]) {
    if (marked === null) findings.push(`${name} is in the cut and has no mark`)
    if (marked === null || marked.knows === 0) continue
    const known = plan.participants.filter((_one, index) => (marked.knows >> index) & 1).map((one) => one.name)
    findings.push(`not closed under happens-before: ${name}'s mark knows what ${known.join(', ')} did after its own`)
  }
  return findings
}

/** Every message in exactly one place: received inside the cut, recorded, still to be sent, or named as missing. */
function fateFindings(fate: Fate, verdict: string): readonly string[] {
  const name = `m${fate.id}`
  const isReceived = fate.received === 'before'
  const places = (isReceived ? 1 : 0) + fate.recorded
  if (!fate.sentBefore) return places === 0 ? [] : [`${name} is in the cut ${places} times and was not sent in it (C1)`]
  if (places === 1) return []
  if (places > 1) return [`${name} is in the cut ${places} times (C2)`]
  if (verdict !== 'consistent') return fate.isLost ? [] : [`${name} is in no place of the cut and is not lost (C2)`]
  return [`${name} is in no place of a cut that calls itself consistent (C2)`]
}

function conservationFindings({ processes, stores, fates, tokens }: World): readonly string[] {
  let found = 0
  for (const { marked } of [...Object.values(processes), ...Object.values(stores)]) found += marked?.balance ?? 0
  for (const { recorded, amount } of fates) found += recorded * amount
  return found === tokens ? [] : [`${found} tokens in the cut, ${tokens} in the world`]
}

export function isEnded({ records }: World): boolean {
  return records.some((record) => record.type === 'ended')
}

/** Of every state: what one persisted outcome must agree with. */
export function stateFindings(world: World): readonly string[] {
  const outcomes = world.records.flatMap((record) => (record.type === 'ended' ? [record.outcome.kind] : []))
  const findings = [...world.findings]
  for (const record of world.records) {
    if (record.type !== 'ended' || record.outcome.kind !== 'aborted' || world.trouble > 0) continue
    // A request that came while the marks were being ordered: nobody did wrong, and the next attempt succeeds.
    if (record.outcome.failure.code === 'hold_broken') continue
    findings.push(`aborted, and nothing had gone wrong: ${record.outcome.failure.message}`)
  }
  if (outcomes.length > 1) findings.push(`C6: ${outcomes.length} outcomes are persisted: ${outcomes.join(', ')}`)
  if (outcomes.includes('aborted') && world.snapshots > 0)
    findings.push('C6: the cut is aborted, and its snapshot exists')
  if (outcomes.includes('sealed') && world.snapshots === 0) findings.push('C6: the cut is sealed, and has no snapshot')
  return findings
}

/** Nothing can happen any more: the cut has ended (C10) and left nothing behind (C5, C7). */
export function restFindings(world: World): readonly string[] {
  const findings: string[] = []
  if (!isEnded(world)) findings.push('C10: nothing can happen any more, and the cut has no outcome')
  for (const [name, { state, isAlive, outbox, inbox }] of Object.entries(world.processes)) {
    if (!isAlive) continue
    if (state.gate.kind !== 'open') findings.push(`C7: the gate of ${name} is ${state.gate.kind}`)
    if (state.work !== null) findings.push(`C7: ${name} still works for ${state.work.ref.cut}`)
    if (outbox.length + inbox.length > 0) findings.push(`C7: ${name} keeps messages back`)
  }
  for (const [name, { state, isHeld, hasMark }] of Object.entries(world.stores)) {
    if (isHeld) findings.push(`C5: ${name} is held`)
    if (hasMark) findings.push(`C7: the mark of ${name} is pinned`)
    if (state.work !== null) findings.push(`C7: ${name} still works for ${state.work.ref.cut}`)
  }
  return findings
}
