/**
 * A copy of a tree that shares its blocks with the original, where the file system can make one (btrfs, XFS, bcachefs).
 *
 * `cp` makes it, because it keeps what Node cannot: nanoseconds, owners, extended attributes, ACLs and hard links.
 * A clone is no snapshot: it is made file by file. It is the state of one instant only when nobody wrote meanwhile, and
 * that is for the caller to know (a hold, or equal scans before and after).
 */
import { constants } from 'node:fs'
import { copyFile, mkdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isFailure } from '@stillpoint/core/kernel'
import { commandText } from '../command/command-process.ts'

/** Whether files of `directory` can be cloned into `scratch`. Leaves nothing behind. */
export async function canClone(directory: string, scratch: string): Promise<boolean> {
  const [a, b] = [join(scratch, 'clone-probe'), join(scratch, 'clone-probe-2')]
  try {
    if ((await stat(directory)).dev !== (await stat(scratch)).dev) return false
    await writeFile(a, 'x'.repeat(8192))
    await copyFile(a, b, constants.COPYFILE_FICLONE_FORCE)
    return true
  } catch {
    return false // Not this file system, or no directory yet: a scan does instead.
  } finally {
    await rm(a, { force: true })
    await rm(b, { force: true })
  }
}

/** False: some file could not be cloned, and nothing is left at `to`. */
export async function cloneTree(
  from: string,
  to: string,
  limits: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<boolean> {
  await rm(to, { recursive: true, force: true })
  await mkdir(to, { mode: 0o700 })
  try {
    await commandText({
      role: 'clone',
      command: ['cp', '-a', '--reflink=always', '--', `${from}/.`, to],
      cwd: from,
      ...limits,
    })
    return true
  } catch (error) {
    await rm(to, { recursive: true, force: true })
    if (isFailure(error)) return false
    throw error
  }
}
