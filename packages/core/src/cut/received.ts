/**
 * Which sequence numbers of a session have been received: a prefix and a sparse rest, so that its size follows the
 * disorder on the channel and not its age. Immutable.
 *
 * Relies on `beyond` being ascending, each number once and greater than `upTo` + 1: what comes from outside is checked
 * for it (session/validate.ts, and `verdictOf`).
 */
import { defined } from '../kernel/assert.ts'
import type { Received } from './messages.ts'

export const nothingReceived: Received = { upTo: 0, beyond: [] }

/** Where `seq` is in the ascending list, or would be. */
function placeOf(beyond: readonly number[], seq: number): number {
  let [from, to] = [0, beyond.length]
  while (from < to) {
    const middle = (from + to) >>> 1
    if (defined(beyond[middle], 'a number between two places') < seq) from = middle + 1
    else to = middle
  }
  return from
}

export function hasReceived({ upTo, beyond }: Received, seq: number): boolean {
  return seq <= upTo || (beyond.length > 0 && beyond[placeOf(beyond, seq)] === seq)
}

export function addReceived(received: Received, seq: number): Received {
  const { upTo, beyond } = received
  if (seq <= upTo) return received
  if (seq > upTo + 1) {
    const place = placeOf(beyond, seq)
    return beyond[place] === seq ? received : { upTo, beyond: beyond.toSpliced(place, 0, seq) }
  }
  let absorbed = 0
  while (beyond[absorbed] === seq + 1 + absorbed) absorbed += 1
  return { upTo: seq + absorbed, beyond: absorbed === 0 ? beyond : beyond.slice(absorbed) }
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
  let next = 0
  for (let seq = received.upTo + 1; seq <= sent && missing.length < countMax; seq += 1) {
    if (received.beyond[next] === seq) next += 1
    else missing.push(seq)
  }
  return missing
}

/** How many of the numbers from 1 to `sent` are not in the set, whatever `sent` is. */
export function countMissing(received: Received, sent: number): number {
  const here = placeOf(received.beyond, sent + 1)
  return Math.max(0, sent - received.upTo - here)
}
