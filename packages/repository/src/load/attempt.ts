/** Owns what becomes of an error that is about one path of the target. */
import { Failure } from '@stillpoint/core/kernel'
import { errnoOf, storageFailure } from '../blob/storage-failure.ts'
import type { AttributeProblem } from '../extended-attributes.ts'
import type { Load } from './load.ts'

/** Runs the action; false where it failed and that was taken as a problem of the path. Bugs, aborts and a full disk go up. */
export async function attempt(load: Load, path: string, action: () => Promise<void> | void): Promise<boolean> {
  load.abort()
  if (load.turns.isDue) await load.turns.give()
  try {
    await action()
    return true
  } catch (error) {
    if (!(error instanceof Failure) && errnoOf(error) === undefined) throw error
    load.abort()
    failed(load, path, error)
    return false
  }
}

/** @throws Failure `no_space`; and where the first problem ends all */
export function failed(load: Load, path: string, error: unknown): void {
  const failure = storageFailure(error, 'restoring', path)
  if (failure.code === 'no_space') throw targetFull(failure)
  load.problem(path, failure)
}

function targetFull({ message, cause }: Failure): Failure {
  const hint =
    'Free space in the target, or choose a larger one, and run the same restore again, overwriting what is there: what ' +
    'is restored already is compared, and only the rest is written.'
  return new Failure({ code: 'no_space', message, hint, retry: 'later', cause })
}

/** The content is restored, its attributes are not. */
export function failedAttributes(load: Load, path: string, problems: readonly AttributeProblem[]): void {
  for (const { failure } of problems) load.attributeProblem(path, failure)
}
