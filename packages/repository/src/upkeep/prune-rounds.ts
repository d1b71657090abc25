/** Owns what a prune says that took several rounds for want of room: the sum of what they did. Pure. */
import type { PruneAmount, PruneStats } from './prune-plan.ts'

export function sumOfRounds(rounds: readonly PruneStats[]): PruneStats {
  const [first, ...later] = rounds
  if (first === undefined) throw new RangeError('a prune without rounds')
  return later.reduce(
    (sum, round) => ({
      ...round, // what is used, left and kept: as the last one has it
      unused: sum.unused,
      toRepack: both(sum.toRepack, round.toRepack),
      repackRemoves: both(sum.repackRemoves, round.repackRemoves),
      toDelete: both(sum.toDelete, round.toDelete),
      packsRepacked: sum.packsRepacked + round.packsRepacked,
      packsDeleted: sum.packsDeleted + round.packsDeleted,
    }),
    first,
  )
}

function both(one: PruneAmount, other: PruneAmount): PruneAmount {
  return { blobs: one.blobs + other.blobs, bytes: one.bytes + other.bytes }
}
