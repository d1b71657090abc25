/**
 * Judges of one sealed cut, by what really happened. Each answers what it found wrong; nothing is what must come out.
 */
import type { Event, MarkedState, ObservedCut, Told } from './truth.ts'

export function cutFindings(cut: ObservedCut): readonly string[] {
  const findings = [...closure(cut), ...messagePlaces(cut), ...conservation(cut)]
  return findings.map((finding) => `${cut.cut} (${cut.verdict}): ${finding}`)
}

/** Closed under happens-before: no mark knows more of anybody than that one's own mark. */
function closure({ marks, cutOff, overrun, verdict }: ObservedCut): readonly string[] {
  if (verdict === 'inconsistent') return [] // It says so itself; whether it had to is judged by `reasonless`.
  const findings: string[] = []
  for (const [knower, { clock }] of marks) {
    for (const [known, own] of marks) {
      // What a handler that was cut off did after its process had marked is named by the certificate.
      if (verdict !== 'consistent' && (cutOff.has(known) || overrun.has(known))) continue
      const [knows, has] = [clock[own.actor] ?? 0, own.clock[own.actor] ?? 0]
      if (knows > has) findings.push(`${knower}'s mark knows ${knows} events of ${known}, whose mark has ${has}`)
    }
  }
  return findings
}

/** Every message that was sent inside the cut is in exactly one place of it; every other in none. */
function messagePlaces(cut: ObservedCut): readonly string[] {
  const { marks, messages, recorded, verdict, redelivered, missing, strangers } = cut
  if (verdict === 'inconsistent') return []
  const byActor = new Map<number, MarkedState>()
  for (const mark of marks.values()) byActor.set(mark.actor, mark)
  const isInside = ({ actor, index }: Event): boolean => index <= (byActor.get(actor)?.clock[actor] ?? 0)
  const copies = new Map<string, number>()
  for (const id of recorded) copies.set(id, (copies.get(id) ?? 0) + 1)
  const findings: string[] = []
  for (const told of messages) {
    let received = 0
    for (const event of told.received) if (isInside(event)) received += 1
    const inChannels = copies.get(told.id) ?? 0
    if (redelivered.has(told.id) && verdict !== 'consistent') continue
    if (strangers.has(told.from)) {
      findings.push(...strangersMessage(told.id, received, inChannels))
      continue
    }
    if (strangers.has(told.to) && hasReached(told)) continue
    const isNamed = verdict === 'crash-consistent' && missing.has(told.id)
    const wrong = placesFinding(told, { isSent: isInside(told.sent), received, inChannels, isInside, isNamed })
    if (wrong !== null) findings.push(wrong)
  }
  return findings
}

/** What an outsider says is part of whoever has heard it, once; a channel's state it is not: nobody would send it again. */
function strangersMessage(id: string, received: number, inChannels: number): readonly string[] {
  if (inChannels > 0) return [`${id} is recorded, and its sender takes no part in the cut (C4)`]
  return received > 1 ? [`${id} is in the cut ${received} times (C2)`] : []
}

/** What a process outside the plan has heard, or has lost with its memory, an outsider has: it is no side of the cut. */
function hasReached({ to, received, lost }: Told): boolean {
  return received.length > 0 || (lost !== null && lost !== 'network' && lost.actor === to)
}

interface Places {
  readonly isSent: boolean
  readonly received: number
  readonly inChannels: number
  readonly isInside: (event: Event) => boolean
  /** The certificate says that it is missing, and is not `consistent`. */
  readonly isNamed: boolean
}

function placesFinding(told: Told, { isSent, received, inChannels, isInside, isNamed }: Places): string | null {
  const { id, lost } = told
  const places = received + inChannels
  if (!isSent) return places === 0 ? null : `${id} is in the cut ${places} times and was not sent in it (C1)`
  if (places === 1) return null
  if (places > 1) return `${id} is in the cut ${places} times: received ${received}, recorded ${inChannels} (C2)`
  // Lost with the memory of somebody whose crash is itself inside the cut: so it is in the world's own past.
  if (lost !== null && lost !== 'network' && isInside(lost)) return null
  if (isNamed) return null
  return `${id} was sent in the cut, and is neither received nor recorded${lost === null ? '' : ' but lost'} (C2)`
}

/** Tokens in states and in recorded channels are the tokens that there were, less what the world lost for good. */
function conservation({ marks, messages, recorded, tokens, verdict }: ObservedCut): readonly string[] {
  if (verdict !== 'consistent') return []
  const byActor = new Map<number, MarkedState>()
  for (const mark of marks.values()) byActor.set(mark.actor, mark)
  let found = 0
  for (const mark of marks.values()) found += mark.tokens
  const copies = new Map<string, number>()
  for (const id of recorded) copies.set(id, (copies.get(id) ?? 0) + 1)
  let lost = 0
  for (const told of messages) {
    found += told.amount * (copies.get(told.id) ?? 0)
    if (told.lost === null || told.lost === 'network') continue
    const { actor, index } = told.lost
    if (index <= (byActor.get(actor)?.clock[actor] ?? 0)) lost += told.amount
  }
  return found + lost === tokens
    ? []
    : [`${found} tokens in the cut and ${lost} lost before it, ${tokens} in the world`]
}

/** The verdict in the other direction: what is not `consistent` has a reason that the world can see. */
export function reasonless(cut: ObservedCut, hasReason: boolean): readonly string[] {
  if (cut.verdict === 'consistent' || hasReason) return []
  return [`${cut.cut}: is called ${cut.verdict}, and nothing had happened: ${cut.reasons.join('; ')}`]
}
