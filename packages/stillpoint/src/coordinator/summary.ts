/**
 * What a certificate says, in the words and figures that are shown: pure functions of the evidence, so that whoever has
 * a snapshot can compute them again (verify.ts does).
 */
import { type Certificate, countReceived, type HoldEvidence, type Plan } from '@stillpoint/core'
import type { ChannelSummary } from './operations.ts'

export function channelSummaries(certificate: Certificate): readonly ChannelSummary[] {
  const channels = new Map<string, { sent: number; received: number; inFlight: number; missing: number }>()
  const at = (channel: string) => {
    const summary = channels.get(channel) ?? { sent: 0, received: 0, inFlight: 0, missing: 0 }
    channels.set(channel, summary)
    return summary
  }
  for (const { mark, drained } of Object.values(certificate.processes)) {
    for (const { channel, sent } of mark.sent) at(channel).sent += sent
    for (const { channel, received } of mark.received) at(channel).received += countReceived(received)
    for (const { channel, recorded, missing } of drained) {
      at(channel).inFlight += recorded.length
      at(channel).missing += missing.length
    }
  }
  return [...channels]
    .map(([channel, summary]) => ({ channel, ...summary }))
    .toSorted((a, b) => (a.channel < b.channel ? -1 : 1))
}

export function inFlightOf(certificate: Certificate): number {
  return channelSummaries(certificate).reduce((sum, { inFlight }) => sum + inFlight, 0)
}

/** The longest time that any participant was held, milliseconds. */
export function longestHoldMs(certificate: Certificate): number {
  const evidence = [...Object.values(certificate.processes), ...Object.values(certificate.stores)]
  return evidence.reduce((longest, { hold }) => Math.max(longest, heldMsOf(hold) ?? 0), 0)
}

/** `null` where nothing was held. */
export function heldMsOf(hold: HoldEvidence | undefined): number | null {
  return hold === undefined || hold.unbroken === null ? null : hold.heldMs
}

/** What a participant's grade is called: a process that gates nothing lets the system flow. */
export function gradeOf(participant: Plan['participants'][number]): string {
  if (participant.kind === 'store') return participant.grade
  return participant.gated ? 'gated' : 'flow'
}

/** The recorded messages of a channel by the evidence: `session#seq` to the message's id. */
export function recordedOn(certificate: Certificate, channel: string): ReadonlyMap<string, string> {
  const recorded = new Map<string, string>()
  for (const { drained } of Object.values(certificate.processes)) {
    for (const each of drained) {
      if (each.channel !== channel) continue
      for (const { seq, message } of each.recorded) recorded.set(`${each.session}#${seq}`, message)
    }
  }
  return recorded
}

/** Why the stored state of a channel is not what the evidence says; `undefined` when it is. */
export function channelDifference(
  expected: ReadonlyMap<string, string>,
  stored: ReadonlyMap<string, string>,
): string | undefined {
  for (const [place, message] of expected) {
    const found = stored.get(place)
    if (found === undefined) return `message ${message} (${place}) is missing`
    if (found !== message) return `${place} is message ${found}, not ${message}`
  }
  if (stored.size === expected.size) return undefined
  return `it holds ${stored.size} messages, the evidence has ${expected.size}`
}
