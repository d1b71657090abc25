/**
 * Restoring a directory from its parts, and comparing it with them.
 *
 * Owns: staging beside the target, the swap, and what stays when something fails. Does not own: writing entries, which
 * is the parts' (path-safe, below the given directory only).
 *
 * Invariants:
 * - The target is not touched before the new tree is complete and synced. (An empty mount point is filled in place:
 *   nothing is lost there.)
 * - The old tree is kept, in `.stillpoint-restore-…` beside the target (or, at a mount point, in it), until the new one
 *   is in its place. A crash between the two renames leaves both there, whole.
 */
import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { chmod, chown, lstat, mkdir, mkdtemp, open, readdir, rename, rm, rmdir, stat, utimes } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { commandText } from '../command/command-process.ts'
import type { Parts, RestoreOptions, RestoreReport, VerifyReport } from '../source.ts'
import { type Excluded, scanDirectory } from './scan.ts'

export const treePart = 'tree'
const shownMax = 5
const syncTimeoutMs = 600_000

type Target =
  | { readonly state: 'absent' | 'empty' | 'content'; readonly mountPoint: boolean }
  | { readonly state: 'other'; readonly mountPoint: false }

async function inspect(path: string): Promise<Target> {
  let device: bigint
  try {
    const found = await lstat(path, { bigint: true })
    if (!found.isDirectory()) return { state: 'other', mountPoint: false }
    device = found.dev
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return { state: 'absent', mountPoint: false }
    throw unwritable(path, error)
  }
  const mountPoint = (await stat(dirname(path), { bigint: true })).dev !== device
  const names = await readdir(path)
  // A new ext4 file system has this, and nothing else.
  return { state: names.every((name) => name === 'lost+found') ? 'empty' : 'content', mountPoint }
}

/** @throws Failure `target_not_empty` | `target_not_directory` | `part_missing` | `target_unwritable` */
export async function checkTarget(path: string, parts: Parts, options: RestoreOptions): Promise<Target> {
  if (!parts.names().includes(treePart)) {
    throw new Failure({
      code: 'part_missing',
      message: `the snapshot of this directory has no part ${treePart}`,
      hint: 'It was made by another kind of source, or is damaged: run `stillpoint verify` on the snapshot.',
    })
  }
  const target = await inspect(path)
  if (target.state === 'other') {
    throw new Failure({
      code: 'target_not_directory',
      message: `${path} is there, and is not a directory`,
      hint: 'Give the path of a directory, or of none.',
    })
  }
  if (target.state === 'content' && !options.replace) throw notEmpty(path)
  return target
}

export async function restoreDirectory(
  path: string,
  parts: Parts,
  options: RestoreOptions,
  signal: AbortSignal,
): Promise<RestoreReport> {
  signal.throwIfAborted()
  const target = await checkTarget(path, parts, options)
  const beside = target.mountPoint ? path : dirname(path)
  let stage: string
  try {
    stage = await mkdtemp(join(beside, '.stillpoint-restore-'))
  } catch (cause) {
    throw unwritable(beside, cause)
  }
  const fresh = join(stage, 'new')
  let old: 'untouched' | 'aside' = 'untouched'
  try {
    await mkdir(fresh, { mode: 0o700 })
    const { bytes } = await parts.directory(treePart, fresh, signal).catch((error: unknown) => {
      throw codeOf(error) === 'ENOSPC' ? diskFull(beside, error) : error
    })
    await commandText({ role: 'sync', command: ['sync', '-f', fresh], cwd: stage, timeoutMs: syncTimeoutMs, signal })
    signal.throwIfAborted()
    // Not cancelled from here on: a few renames, and the old tree is aside until the last.
    old = 'aside'
    if (target.mountPoint) await swapInside(path, stage)
    else await swapWhole(path, stage)
    old = 'untouched'
    return { bytes, notes: target.mountPoint ? [`${path} is a mount point: its entries were replaced one by one`] : [] }
  } finally {
    if (old === 'untouched' || !(await hasOld(stage))) await rm(stage, { recursive: true, force: true })
  }
}

async function hasOld(stage: string): Promise<boolean> {
  return (await readdir(stage)).includes('old')
}

async function swapWhole(path: string, stage: string): Promise<void> {
  const [fresh, old] = [join(stage, 'new'), join(stage, 'old')]
  const target = await inspect(path)
  // rename(2) replaces an empty directory in one step, and refuses one that has got content meanwhile.
  if (target.state === 'content') await rename(path, old)
  try {
    await rename(fresh, path)
  } catch (error) {
    if (target.state === 'content') await rename(old, path)
    throw codeOf(error) === 'ENOTEMPTY' || codeOf(error) === 'EEXIST' ? notEmpty(path) : error
  }
  await syncDirectory(dirname(path))
  await rm(old, { recursive: true, force: true })
}

/** A mount point cannot be renamed: its entries are. */
async function swapInside(path: string, stage: string): Promise<void> {
  const [fresh, old] = [join(stage, 'new'), join(stage, 'old')]
  const kept = new Set([stage.slice(stage.lastIndexOf('/') + 1), 'lost+found'])
  const stats = await stat(fresh)
  await mkdir(old)
  for (const name of await readdir(path)) if (!kept.has(name)) await rename(join(path, name), join(old, name))
  for (const name of await readdir(fresh)) await rename(join(fresh, name), join(path, name))
  await syncDirectory(path)
  await rm(old, { recursive: true })
  await rmdir(fresh)
  await rmdir(stage)
  await chown(path, stats.uid, stats.gid)
  await chmod(path, stats.mode & 0o7777)
  await utimes(path, stats.atime, stats.mtime)
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}

function notEmpty(path: string): Failure {
  return new Failure({
    code: 'target_not_empty',
    message: `${path} is not empty`,
    hint: 'Restore to another path, or say that it is to be replaced (--replace).',
  })
}

function unwritable(path: string, cause: unknown): Failure {
  return new Failure({
    code: 'target_unwritable',
    message: `nothing can be written in ${path}: ${cause instanceof Error ? cause.message : String(cause)}`,
    hint: 'Make the directory, and let the user who runs stillpoint write to it.',
    cause,
  })
}

function diskFull(path: string, cause: unknown): Failure {
  return new Failure({
    code: 'disk_full',
    message: `no space left in ${path} for the restored directory`,
    hint: 'Free space: a restore needs room for the new tree beside the old one.',
    retry: 'later',
    cause,
  })
}

/** Every stored entry against the target as it is now, and the other way round. */
export async function verifyDirectory(
  path: string,
  parts: Parts,
  excluded: Excluded,
  signal: AbortSignal,
): Promise<VerifyReport> {
  const { manifest } = await scanDirectory(path, excluded, signal)
  const left = new Set(manifest.keys())
  const wrong = { missing: [] as string[], size: [] as string[], content: [] as string[] }
  let entries = 0
  for await (const entry of parts.entries(treePart, signal)) {
    entries += 1
    left.delete(entry.path)
    const found = manifest.get(entry.path)
    if (found === undefined || (isKnownType(entry.type) && found.type !== entry.type)) wrong.missing.push(entry.path)
    else if (entry.type === 'file' && found.bytes !== entry.bytes) wrong.size.push(entry.path)
    else if (entry.sha256 !== undefined && (await sha256Of(join(path, entry.path), signal)) !== entry.sha256) {
      wrong.content.push(entry.path)
    }
  }
  left.delete('')
  return {
    checks: [
      listCheck('entries that are missing or of another type', wrong.missing, entries),
      listCheck('entries that were not stored', [...left], entries),
      listCheck('files of another size', wrong.size, entries),
      listCheck('files with another content', wrong.content, entries),
    ],
  }
}

function isKnownType(type: string): boolean {
  return type === 'file' || type === 'directory' || type === 'symlink'
}

function listCheck(name: string, wrong: readonly string[], entries: number) {
  const shown = wrong
    .slice(0, shownMax)
    .map((path) => JSON.stringify(path))
    .join(', ')
  const more = wrong.length > shownMax ? ` and ${wrong.length - shownMax} more` : ''
  return { name, passed: wrong.length === 0, detail: wrong.length === 0 ? `none of ${entries}` : `${shown}${more}` }
}

async function sha256Of(path: string, signal: AbortSignal): Promise<string | undefined> {
  const hash = createHash('sha256')
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
    try {
      for await (const chunk of file.createReadStream({ autoClose: false, signal })) hash.update(chunk)
    } finally {
      await file.close()
    }
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ELOOP') return undefined
    throw error
  }
  return hash.digest('hex')
}
