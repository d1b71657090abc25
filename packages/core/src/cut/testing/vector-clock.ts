/** Vector clocks (Fidge, Mattern 1988): what an actor knows of every other. */

export type VectorClock = Readonly<Record<string, number>>

export function tick(clock: VectorClock, name: string): VectorClock {
  return { ...clock, [name]: (clock[name] ?? 0) + 1 }
}

export function merge(a: VectorClock, b: VectorClock): VectorClock {
  const merged: Record<string, number> = { ...a }
  for (const [name, count] of Object.entries(b)) merged[name] = Math.max(merged[name] ?? 0, count)
  return merged
}

/** An event of `name` that learns what `learnt` knows. */
export function touch(node: { clock: VectorClock }, name: string, learnt: VectorClock): void {
  node.clock = tick(merge(node.clock, learnt), name)
}
