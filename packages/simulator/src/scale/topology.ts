/** Who may send to whom in a world of many processes. */
import type { SeededRandom } from '../world/random.ts'

export interface Topology {
  /** Directed, as [from, to]; open for the whole run. */
  readonly channels: readonly (readonly [number, number])[]
  /** Only these carry messages; the others are declared, and open, and silent. */
  readonly used: readonly (readonly [number, number])[]
}

export const topologies = {
  /** A ring, and three channels more from each process to others that chance picks: four per process. */
  ring: (count: number, random: SeededRandom): Topology => {
    const channels = sparse(count, random)
    return { channels, used: channels }
  },
  /** Everybody may send to everybody; messages take the same channels as in `ring`. */
  mesh: (count: number, random: SeededRandom): Topology => {
    const channels: [number, number][] = []
    for (let from = 0; from < count; from += 1) {
      for (let to = 0; to < count; to += 1) if (from !== to) channels.push([from, to])
    }
    return { channels, used: sparse(count, random) }
  },
  /** One process in the middle, that everybody speaks with. */
  star: (count: number): Topology => {
    const channels: [number, number][] = []
    for (let spoke = 1; spoke < count; spoke += 1) channels.push([spoke, 0], [0, spoke])
    return { channels, used: channels }
  },
} as const satisfies Record<string, (count: number, random: SeededRandom) => Topology>

export type TopologyName = keyof typeof topologies

const degree = 4

function sparse(count: number, random: SeededRandom): readonly (readonly [number, number])[] {
  const channels: [number, number][] = []
  for (let from = 0; from < count; from += 1) {
    const peers = new Set([(from + 1) % count])
    while (peers.size < Math.min(degree, count - 1)) {
      const peer = random.below(count)
      if (peer !== from) peers.add(peer)
    }
    for (const to of peers) channels.push([from, to])
  }
  return channels
}
