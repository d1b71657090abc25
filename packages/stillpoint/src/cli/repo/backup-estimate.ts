/**
 * How much there is to save: whether it is much, before a backup, and counted beside the backup so that a person sees how
 * far it is. It opens no file, it stops when the backup ends, and what it cannot read it leaves to the backup to report.
 */
import { lstat, opendir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { ExcludeRules } from './backup-excludes.ts'

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

/** @param targets absolute paths */
export async function estimate(
  targets: readonly string[],
  rules: ExcludeRules,
  { into, signal }: { readonly into: Estimate; readonly signal: AbortSignal },
): Promise<void> {
  const open = [...targets]
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    if (signal.aborted) return
    if (rules.byName?.(path) === true) continue
    try {
      const status = await lstat(path, { bigint: true })
      if (rules.byStatus !== undefined && (await rules.byStatus(path, status))) continue
      if (status.isFile()) {
        into.files += 1
        into.bytes += Number(status.size)
      }
      if (status.isDirectory()) for (const name of await readdir(path)) open.push(join(path, name))
    } catch {
      // Gone, or not for us: the backup itself says so.
    }
  }
  into.isComplete = true
}
