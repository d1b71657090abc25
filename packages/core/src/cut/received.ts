/**
 * Which sequence numbers of a session have been received: a prefix and a sparse rest, so that its size follows the
 * disorder on the channel and not its age. Immutable.
 */
import type { Received } from './messages.ts'

export const nothingReceived: Received = { upTo: 0, beyond: [] }

export function hasReceived(received: Received, seq: number): boolean {
  return seq <= received.upTo || received.beyond.includes(seq)
}

export function addReceived(received: Received, seq: number): Received {
  if (hasReceived(received, seq)) return received
  if (received.beyond.length === 0 && seq === received.upTo + 1) return { upTo: seq, beyond: received.beyond }
  const beyond = [...received.beyond, seq].sort((a, b) => a - b)
  let upTo = received.upTo
  let absorbed = 0
  while (beyond[absorbed] === upTo + 1) {
    upTo += 1
    absorbed += 1
  }
  return { upTo, beyond: beyond.slice(absorbed) }
}

/** The set without `seq`: for a message that arrived but that the cut does not count as received. */
export function removeReceived(received: Received, seq: number): Received {
  if (!hasReceived(received, seq)) return received
  if (seq > received.upTo) return { upTo: received.upTo, beyond: received.beyond.filter((other) => other !== seq) }
  const after = Array.from({ length: received.upTo - seq }, (_, index) => seq + 1 + index)
  return { upTo: seq - 1, beyond: [...after, ...received.beyond] }
}

export function countReceived(received: Received): number {
  return received.upTo + received.beyond.length
}

/** The numbers from 1 to `sent` that are not in the set, ascending; no more than `countMax` of them. */
export function missingFrom(received: Received, sent: number, countMax = Number.POSITIVE_INFINITY): readonly number[] {
  const missing: number[] = []
  const beyond = new Set(received.beyond)
  for (let seq = received.upTo + 1; seq <= sent && missing.length < countMax; seq += 1) {
    if (!beyond.has(seq)) missing.push(seq)
  }
  return missing
}

/** How many of the numbers from 1 to `sent` are not in the set, whatever `sent` is. */
export function countMissing(received: Received, sent: number): number {
  const here = received.beyond.filter((seq) => seq <= sent).length
  return Math.max(0, sent - received.upTo - here)
}
