/**
 * Looking at a directory tree: what is there, and whether it stands still.
 *
 * Owns: the walk, the exclusions, and when a scan may be relied upon. Does not own: contents.
 *
 * Invariants:
 * - Symlinks are entries, and never followed.
 * - A scan is `still` only when a later one was equal, and began more than a tick of the file system's clock after the
 *   newest stamp in it. Any change after it then gets another stamp, so the capture sees it. (Without that, a file that
 *   is written twice within one tick looks the same before and after: git calls such entries racily clean,
 *   https://git-scm.com/docs/racy-git.)
 */
import { isUtf8 } from 'node:buffer'
import { createHash } from 'node:crypto'
import { lstat, readdir } from 'node:fs/promises'
import { join, matchesGlob } from 'node:path'
import { type Clock, Failure } from '@stillpoint/core/kernel'
import type { DirectoryManifest, EntryStamp } from '../source.ts'
import { sameStamp, stampOf } from './stamp.ts'

const parallel = 16

export type Excluded = (relativePath: string) => boolean

/**
 * A pattern without `/` is compared with an entry's name, at any depth; one with `/` with its path below the directory.
 * What is below an excluded directory is excluded with it.
 */
export function excluding(patterns: readonly string[]): Excluded {
  return (path) => {
    const name = path.slice(path.lastIndexOf('/') + 1)
    return patterns.some((pattern) =>
      pattern.includes('/')
        ? matchesGlob(path, pattern.replace(/^\//, '').replace(/\/$/, ''))
        : matchesGlob(name, pattern),
    )
  }
}

export interface Scan {
  readonly manifest: DirectoryManifest
  /** Names that are not UTF-8, as well as they can be shown: they cannot be stored. */
  readonly unreadable: readonly string[]
}

/** @throws Failure `store_unreachable` | `store_privilege_missing` */
export async function scanDirectory(root: string, excluded: Excluded, signal: AbortSignal): Promise<Scan> {
  const manifest = new Map<string, EntryStamp>()
  const unreadable: string[] = []
  const stamp = await look(root, root)
  if (stamp?.type !== 'directory') throw unreachable(root)
  manifest.set('', stamp)
  const directories = ['']
  for (let at = 0; at < directories.length; at += 1) {
    signal.throwIfAborted()
    const directory = directories[at] ?? ''
    const names = await namesIn(join(root, directory), root)
    if (names === undefined) continue
    const paths: string[] = []
    for (const name of names) {
      const path = directory === '' ? name.toString('utf8') : `${directory}/${name.toString('utf8')}`
      if (excluded(path)) continue
      if (isUtf8(name)) paths.push(path)
      else unreadable.push(path)
    }
    for (let from = 0; from < paths.length; from += parallel) {
      const batch = paths.slice(from, from + parallel)
      const stamps = await Promise.all(batch.map((path) => look(join(root, path), root)))
      for (const [index, path] of batch.entries()) {
        const found = stamps[index]
        if (found === undefined) continue
        manifest.set(path, found)
        if (found.type === 'directory') directories.push(path)
      }
    }
  }
  return { manifest, unreadable }
}

async function look(path: string, root: string): Promise<EntryStamp | undefined> {
  try {
    return stampOf(await lstat(path, { bigint: true }))
  } catch (error) {
    return goneOrThrow(error, path, root)
  }
}

async function namesIn(path: string, root: string): Promise<Buffer[] | undefined> {
  try {
    return await readdir(path, { encoding: 'buffer' })
  } catch (error) {
    return goneOrThrow(error, path, root)
  }
}

/** What is gone since it was listed is no entry; the comparison with the next scan shows it. */
function goneOrThrow(error: unknown, path: string, root: string): undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if ((code === 'ENOENT' || code === 'ENOTDIR') && path !== root) return undefined
  if (code === 'EACCES' || code === 'EPERM') {
    throw new Failure({
      code: 'store_privilege_missing',
      message: `${path} may not be read`,
      hint: 'Run the agent as a user who may read all of the directory, or exclude it.',
      cause: error,
    })
  }
  throw unreachable(path, error)
}

export function unreachable(path: string, cause?: unknown): Failure {
  return new Failure({
    code: 'store_unreachable',
    message: `${path} is not a directory that can be read${cause instanceof Error ? `: ${cause.message}` : ''}`,
    hint: 'Check the path, and that its file system is mounted.',
    cause,
  })
}

export function sameScan(a: DirectoryManifest, b: DirectoryManifest, isSame = sameStamp): boolean {
  return a.size === b.size && changedIn(a, b, isSame).length === 0
}

/** Paths of `before` that are gone in `after`, or no longer the same. */
export function changedIn(before: DirectoryManifest, after: DirectoryManifest, isSame = sameStamp): readonly string[] {
  return [...before].flatMap(([path, stamp]) => {
    const other = after.get(path)
    return other !== undefined && isSame(stamp, other) ? [] : [path]
  })
}

export interface StillOptions {
  readonly scan: () => Promise<Scan>
  readonly clock: Clock
  readonly settleMs: number
  readonly triesMax: number
  readonly signal: AbortSignal
  /** Done between two scans: it has seen the state that both show, when they are equal. */
  readonly between?: () => Promise<void>
  /** Default: every stamp counts. */
  readonly isSame?: typeof sameStamp
}

/** Scans until two scans are equal and settled. `caveats` says what is missing when they never were. */
export async function scanUntilStill(options: StillOptions): Promise<{ scan: Scan; caveats: string[] }> {
  let scan = await options.scan()
  for (let tries = 0; tries < options.triesMax; tries += 1) {
    const waited = await settle(scan.manifest, options)
    await options.between?.()
    const next = await options.scan()
    const same = sameScan(scan.manifest, next.manifest, options.isSame)
    scan = next
    if (!same) continue
    // Only now is it known that nothing changed while it was waited for.
    return { scan, caveats: waited ? [] : ['entries have times in the future: a change of them may go unseen'] }
  }
  return { scan, caveats: ['the directory changed between two scans'] }
}

/** Waits until the newest stamp is `settleMs` old. False: it lies in the future, by this machine's clock. */
async function settle(manifest: DirectoryManifest, { clock, settleMs, signal }: StillOptions): Promise<boolean> {
  let newestNs = 0n
  for (const { ctimeNs } of manifest.values()) if (ctimeNs > newestNs) newestNs = ctimeNs
  const waitMs = Number(newestNs / 1_000_000n) + settleMs + 1 - clock.wallMs()
  if (waitMs > settleMs * 2 + 2) return false
  if (waitMs > 0) await pause(clock, waitMs, signal)
  return true
}

function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      cancel()
      reject(signal.reason)
    }
    const cancel = clock.after(delayMs, () => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    })
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  })
}

/**
 * Entries, bytes of files, and a digest over every stamp: two equal positions are one state. The ctime of files is left
 * out: pinning by links moves it.
 */
export function positionOf(manifest: DirectoryManifest): { entries: number; bytes: number; sha256: string } {
  const hash = createHash('sha256')
  let bytes = 0
  for (const [path, { type, bytes: size, mtimeNs, ctimeNs, inode }] of [...manifest].toSorted(byPath)) {
    hash.update(
      JSON.stringify([path, type, size, String(mtimeNs), type === 'file' ? '' : String(ctimeNs), String(inode)]),
    )
    if (type === 'file') bytes += size
  }
  return { entries: manifest.size, bytes, sha256: hash.digest('hex') }
}

function byPath([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : a > b ? 1 : 0
}
