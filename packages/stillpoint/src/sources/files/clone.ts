/**
 * A second tree that keeps what is there at the mark, without copying it: clones that share their blocks with the
 * original, where the file system can make them (btrfs, XFS, bcachefs), else hard links, where the scratch directory is
 * on the same file system.
 *
 * Links keep a file that is replaced by a rename or removed. They do not keep one that is written in place: its size or
 * modification time tells. Making them moves each file's ctime, so that is no sign of a change any more.
 *
 * `cp` makes both, because it keeps what Node cannot: nanoseconds, owners, extended attributes, ACLs and hard links.
 * Neither is a snapshot: it is made file by file. It is the state of one instant only when nobody wrote meanwhile, and
 * that is for the caller to know (a hold, or equal scans before and after).
 */
import { constants } from 'node:fs'
import { copyFile, mkdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isFailure } from '@stillpoint/core/kernel'
import { commandText } from '../command/command-process.ts'

/** Whether files of `directory` can be cloned into `scratch`. Leaves nothing behind. */
async function canClone(directory: string, scratch: string): Promise<boolean> {
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

export type PinKind = 'clone' | 'link'

const copyFlag: Readonly<Record<PinKind, string>> = { clone: '--reflink=always', link: '--link' }

/** How the tree at `directory` can be pinned below `scratch`; null: not at all. */
export async function pinKind(directory: string, scratch: string): Promise<PinKind | null> {
  if (await canClone(directory, scratch)) return 'clone'
  try {
    return (await stat(directory)).dev === (await stat(scratch)).dev ? 'link' : null
  } catch {
    return null // No directory yet: there is nothing to pin.
  }
}

/** False: some file could not be pinned, and nothing is left at `to`. */
export async function pinTree(
  kind: PinKind,
  { from, to }: { readonly from: string; readonly to: string },
  limits: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<boolean> {
  await rm(to, { recursive: true, force: true })
  await mkdir(to, { mode: 0o700 })
  try {
    await commandText({
      role: 'clone',
      command: ['cp', '-a', copyFlag[kind], '--', `${from}/.`, to],
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
