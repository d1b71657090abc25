/**
 * Owns the kinds of work that can be done in any thread of the pool, and their types.
 *
 * To add a kind: write a function `(input, context) => result` in the folder that it belongs to, and name it in `tasks`.
 * It is then called as `pool.run('itsName', input, { bytes })`. Rules for such a function:
 * 1. It depends on nothing but its arguments, and keeps nothing.
 * 2. Input and result are data that can be cloned (no functions, no class instances): typed arrays over shared memory
 *    (see slabs.ts) cost nothing to pass, others are copied, with the whole `ArrayBuffer` below them.
 * 3. It touches shared memory only until it has returned: who waits for it uses that memory again.
 * 4. It takes at most about 100 ms: more work is more tasks. It may run in the main thread, too.
 * 5. It throws `DamageError`, `Failure` or errors of the operating system; they arrive as what they were.
 */
import type { GearTable } from '../chunk/gear-table.ts'
import type { CryptKeys } from '../format/crypto.ts'
import { examineFiles } from '../load/examine-files.ts'
import { placeBlobs } from '../load/place-blobs.ts'
import { cutChunks, readChunks } from '../save/cut-chunks.ts'
import { finishPack } from '../save/finish-pack.ts'
import { scanFolders } from '../save/scan-folders.ts'
import { scanNames } from '../save/scan-names.ts'
import { sealBlobs } from '../save/seal-blobs.ts'
import { verifyBlobs } from '../upkeep/verify-blobs.ts'
import { openBlobs } from './open-blobs.ts'

/** What all tasks of a pool share. */
export interface TaskContext {
  readonly keys: CryptKeys
  readonly gear: GearTable
}

export const tasks = {
  cutChunks,
  readChunks,
  scanFolders,
  scanNames,
  sealBlobs,
  finishPack,
  openBlobs,
  verifyBlobs,
  examineFiles,
  placeBlobs,
} as const

export type TaskKind = keyof typeof tasks
export type TaskInput<K extends TaskKind> = Parameters<(typeof tasks)[K]>[0]
export type TaskResult<K extends TaskKind> = Awaited<ReturnType<(typeof tasks)[K]>>

/** Does the work in this thread. */
export async function runTask<K extends TaskKind>(
  kind: K,
  input: TaskInput<K>,
  context: TaskContext,
): Promise<TaskResult<K>> {
  // The compiler does not see that one kind's function takes the same kind's input.
  const task = tasks[kind] as unknown as (input: TaskInput<K>, context: TaskContext) => TaskResult<K>
  return await task(input, context)
}
