/**
 * How much there is to save: whether it is much, before a backup, and counted beside the backup so that a person sees how
 * far it is. It opens no file, it stops when the backup ends, and what it cannot read it leaves to the backup to report.
 */
import { lstat, opendir, readdir } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { createExcluder, type ExcludeRules, type Excluder, folderByPath } from '@stillpoint/repository/selection'

/** With so many, a save has work for threads: then they may as well start while the password is tried. */
const manyEntries = 512

/** Whether so many entries lie below the paths. Lists no more directories than it must. */
export async function hasManyEntries(paths: readonly string[]): Promise<boolean> {
  let entries = 0
  const open = [...paths]
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    try {
      for await (const entry of await opendir(path, { bufferSize: manyEntries })) {
        entries += 1
        if (entries === manyEntries) return true
        if (entry.isDirectory()) open.push(join(path, entry.name))
      }
    } catch {
      // No directory, gone, or not for us: the backup itself says so.
    }
  }
  return false
}

export interface Estimate {
  files: number
  bytes: number
  /** Everything has been counted. */
  isComplete: boolean
}

interface Counting {
  readonly into: Estimate
  readonly excluder: Excluder | undefined
  readonly signal: AbortSignal
}

/** @param targets absolute paths */
export async function estimate(
  targets: readonly string[],
  rules: ExcludeRules | undefined,
  { into, signal }: { readonly into: Estimate; readonly signal: AbortSignal },
): Promise<void> {
  const counting = { into, signal, excluder: rules === undefined ? undefined : createExcluder(rules) }
  const folders: string[] = []
  for (const path of targets) await count(counting, dirname(path), { names: [basename(path)], folders })
  for (let path = folders.pop(); path !== undefined; path = folders.pop()) {
    if (signal.aborted) return
    // Gone, or not for us: the backup itself says so.
    await count(counting, path, { names: await readdir(path).catch(() => []), folders })
  }
  into.isComplete = !signal.aborted
}

/** Counts the files of these names, and adds the directories to the folders. */
async function count(
  { into, excluder, signal }: Counting,
  path: string,
  { names, folders }: { readonly names: readonly string[]; readonly folders: string[] },
): Promise<void> {
  const isOut = excluder?.inFolder(folderByPath(path))
  for (const name of names) {
    const below = join(path, name)
    if (signal.aborted) return
    if (excluder?.isOutByName(below) === true) continue
    try {
      const status = await lstat(below, { bigint: true })
      if (isOut?.(name, status) === true) continue
      if (status.isDirectory()) folders.push(below)
      if (!status.isFile()) continue
      into.files += 1
      into.bytes += Number(status.size)
    } catch {
      // Gone, or not for us, or its directory is: the backup itself says so.
    }
  }
}
