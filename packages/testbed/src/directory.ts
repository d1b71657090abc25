/** Temporary directories that do not outlive this process, and small file systems that can be filled up. */
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { guard, guardDirectory } from './guardian.ts'

export interface TemporaryDirectory {
  readonly path: string
  /** Removes it with all that is in it. Idempotent. */
  remove(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

export interface SmallDisk extends TemporaryDirectory {
  /** Keeps what is on it. */
  resize(bytes: number): Promise<void>
}

/** Makes an empty private (0700) directory. It is removed at the latest when this process ends, however it ends. */
export async function temporaryDirectory(prefix: string): Promise<TemporaryDirectory> {
  const path = await mkdtemp(join(tmpdir(), `stillpoint-${prefix}-`))
  const guardian = guardDirectory(path)
  const remove = async () => {
    await rm(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
    guardian.dismiss()
  }
  return { path, remove, [Symbol.asyncDispose]: remove }
}

const run = promisify(execFile)

/**
 * A file system in memory of the given size, to see what happens when a disk is full. Undefined where this process may
 * not mount (not root, not Linux): such a suite is then skipped by name.
 */
export async function smallDisk(bytes: number): Promise<SmallDisk | undefined> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return undefined
  const directory = await temporaryDirectory('disk')
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'stillpoint-test', directory.path])
  } catch {
    await directory.remove() // a container without the right to mount: answered, not an error
    return undefined
  }
  const guardian = guard('sleep 1; umount -l "$1"; rmdir "$1"', directory.path)
  let mounted = true
  const remove = async () => {
    if (mounted) await run('umount', ['-l', directory.path])
    mounted = false
    await directory.remove()
    guardian.dismiss()
  }
  const resize = async (bytes: number) => {
    await run('mount', ['-o', `remount,size=${bytes}`, directory.path])
  }
  return { path: directory.path, resize, remove, [Symbol.asyncDispose]: remove }
}
