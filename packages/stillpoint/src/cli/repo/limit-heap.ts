/** Owns how much memory V8 takes beyond what is in use. What this saves and costs: docs/benchmarks.md. */
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'

/** Of Node 24. Another V8 may not know the flags, and would say so on stderr. */
const knownVersion = '13.6.'
/** Two halves of 4 MiB, one of which is in use. V8 alone goes on to 128 MiB, mostly of what nobody needs any more. */
const youngBytesMost = 8 << 20
const lookMs = 25

/** A backup makes much that is soon forgotten, and V8 would let its heap grow to several times of what is in use. */
export function limitHeap(): void {
  if (!process.versions.v8.startsWith(knownVersion)) return
  setFlagsFromString('--heap-growing-percent=25')
  // `--max-semi-space-size` is read when V8 starts, too early for a program; by how much to grow is asked each time.
  const looking = setInterval(() => {
    if (youngBytes() < youngBytesMost) return
    setFlagsFromString('--semi-space-growth-factor=1')
    clearInterval(looking)
  }, lookMs)
  looking.unref()
}

function youngBytes(): number {
  return getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space')?.space_size ?? 0
}
