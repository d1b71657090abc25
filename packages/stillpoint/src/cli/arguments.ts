/** Checks on what stands in the command line. A wrong one is a usage error, before anything is begun. */
import { InvalidArgumentError } from 'commander'
import { durationExpectation, durationText, parseDurationMs } from '../config/duration.ts'
import { nameProblem } from '../config/schema.ts'
import { snapshotIdSchema } from '../server/api-schema.ts'

const dayMs = 24 * 3_600_000

export function durationArgument(bounds: { readonly minMs: number; readonly maxMs: number }): (text: string) => number {
  return (text) => {
    const ms = parseDurationMs(text)
    if (ms === undefined) throw new InvalidArgumentError(`Give ${durationExpectation.replace(/, or .*/, '')}.`)
    if (ms < bounds.minMs) throw new InvalidArgumentError(`It must be at least ${durationText(bounds.minMs)}.`)
    if (ms > bounds.maxMs) throw new InvalidArgumentError(`It must be at most ${durationText(bounds.maxMs)}.`)
    return ms
  }
}

export const delayArgument = durationArgument({ minMs: 0, maxMs: 366 * dayMs })
export const periodArgument = durationArgument({ minMs: 1_000, maxMs: 366 * dayMs })

export function snapshotArgument(text: string): string {
  if (snapshotIdSchema.safeParse(text).success) return text
  throw new InvalidArgumentError('Give the id of a snapshot, its first digits, or "latest".')
}

/** For a repeatable option. */
export function nameArgument(text: string, earlier: readonly string[] = []): readonly string[] {
  const problem = nameProblem(text)
  if (problem !== undefined) throw new InvalidArgumentError(`${problem}`)
  return [...earlier, text]
}

export function tagArgument(text: string, earlier: readonly string[] = []): readonly string[] {
  if (!/^[^\s\p{Cc},=]{1,64}$/u.test(text)) {
    throw new InvalidArgumentError('Use 1 to 64 characters without spaces, commas and "=".')
  }
  return [...earlier, text]
}

/** For a repeatable argument. */
export function snapshotArguments(text: string, earlier: readonly string[] = []): readonly string[] {
  return [...earlier, snapshotArgument(text)]
}
