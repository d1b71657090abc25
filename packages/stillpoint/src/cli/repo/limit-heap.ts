/** Owns how much memory V8 takes beyond what is in use. What this saves and costs: docs/benchmarks.md. */
import { setFlagsFromString } from 'node:v8'

/** Of Node 24. Another V8 may not know the flags, and would say so on stderr. */
const knownVersion = '13.6.'
const flags = ['--heap-growing-percent=25', '--scavenger-max-new-space-capacity-mb=4']

/** A backup makes much that is soon forgotten, and V8 would let its heap grow to several times of what is in use. */
export function limitHeap(): void {
  if (!process.versions.v8.startsWith(knownVersion)) return
  for (const flag of flags) setFlagsFromString(flag)
}
