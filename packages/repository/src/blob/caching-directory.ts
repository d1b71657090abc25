/**
 * Owns a cache of whole objects on a local disk, laid out as restic lays out its own: `<directory>/CACHEDIR.TAG`, and for
 * each repository `<directory>/<id>/version` and `<directory>/<id>/{index,snapshots,data}/<xx>/<name>`. restic and we may
 * share one. Does not own what is worth keeping; see caching-store.ts.
 *
 * Invariants: 1. no object is given out whose SHA-256 is not its name: a damaged file is removed, and counts as absent.
 * 2. A file appears under its name only whole (temporary name, rename), so processes may use one cache at the same time.
 * It is not synced: what a power cut leaves is found by 1. 3. Directories are 0700, files 0600. 4. A cache that cannot be
 * read or written is no failure of what it is used for: it is told once, and the cache keeps out of the way.
 */
import { constants, type Dirent } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, rm, stat, unlink, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Clock, type Entropy, Failure } from '@stillpoint/core/kernel'
import { isId, sha256 } from '../format/ids.ts'
import type { ByteRange, ObjectName } from './blob-store.ts'
import { errnoOf, storageFailure } from './storage-failure.ts'

/** Kinds that may be kept, and their folders. */
const folders = { index: 'index', snapshot: 'snapshots', pack: 'data' } as const
export type CachedKind = keyof typeof folders
export const cachedKinds: readonly CachedKind[] = ['index', 'snapshot', 'pack']

export interface DirectoryCache {
  /** The whole object, verified; undefined where it is not there or was damaged. Never fails. */
  get(object: ObjectName): Promise<Buffer | undefined>
  /** A part of what `get` has given out before: not verified again. Undefined where it is not there. Never fails. */
  getRange(object: ObjectName, range: ByteRange): Promise<Buffer | undefined>
  /** Keeps the object. Never fails. */
  put(object: ObjectName, bytes: Uint8Array): Promise<void>
  /** Never fails. */
  remove(object: ObjectName): Promise<void>
  /** Of all that is kept of a kind. Never fails. */
  names(kind: CachedKind): Promise<Set<string>>
  /** Removes all of a kind of which `isThere` does not hold, and old temporary files. Never fails. */
  retain(kind: CachedKind, isThere: (name: string) => boolean): Promise<void>
  /** Removes packs until they have no more than this in sum, those not used for longest first. Never fails. */
  trimPacks(bytesMax: number): Promise<void>
}

export interface DirectoryCacheOptions {
  /** Of all repositories' caches. Made where it is not there. */
  readonly directory: string
  readonly repositoryId: string
  readonly clock: Clock
  readonly entropy: Entropy
  /** Told, once, why the cache cannot be used. */
  readonly onProblem?: (failure: Failure) => void
}

const layoutVersion = 1
const directoryMode = 0o700
const fileMode = 0o600
const temporaryPrefix = 'tmp-'
/** Older temporary files are left over by processes that were killed. */
const temporaryAgeMsMax = 24 * 60 * 60 * 1000
const tagText =
  'Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag; see https://bford.info/cachedir/.\n'

/** Opens the cache of a repository, making it where it is not there. @throws Failure `storage_denied`, … */
export async function openDirectoryCache(options: DirectoryCacheOptions): Promise<DirectoryCache> {
  const { directory, repositoryId, clock } = options
  const root = join(directory, repositoryId)
  try {
    await mkdir(directory, { recursive: true, mode: directoryMode })
    await makeFile(join(directory, 'CACHEDIR.TAG'), tagText)
    await mkdir(root, { recursive: true, mode: directoryMode })
    await makeFile(join(root, 'version'), `${layoutVersion}`)
    const version = (await readFile(join(root, 'version'), 'utf8')).trim()
    if (version !== `${layoutVersion}`) throw unknownLayout(root, version)
    // By this time caches are found that nobody uses any more.
    const now = new Date(clock.wallMs())
    await utimes(root, now, now)
  } catch (error) {
    throw storageFailure(error, 'opening the cache', root)
  }
  return cacheIn(root, options)
}

async function makeFile(path: string, text: string): Promise<void> {
  await writeFile(path, text, { flag: 'wx', mode: fileMode }).catch((error: unknown) => {
    if (errnoOf(error) !== 'EEXIST') throw error
  })
}

function unknownLayout(root: string, version: string): Failure {
  return new Failure({
    code: 'storage_failed',
    message: `the cache in ${root} has a layout of version ${JSON.stringify(version.slice(0, 20))}, which is not known`,
    hint: 'Remove that directory: it is only a cache.',
  })
}

function cacheIn(root: string, { clock, entropy, onProblem }: DirectoryCacheOptions): DirectoryCache {
  let isTold = false
  let isWritable = true

  function tell(error: unknown, doing: string, path: string): void {
    if (isTold) return
    isTold = true
    onProblem?.(storageFailure(error, doing, path))
  }

  const pathOf = ({ kind, name }: ObjectName): string | undefined =>
    isCachedKind(kind) && isId(name) ? join(root, folders[kind], name.slice(0, 2), name) : undefined

  async function removeFile(path: string): Promise<void> {
    await unlink(path).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') tell(error, 'removing from the cache', path)
    })
  }

  async function write(path: string, bytes: Uint8Array): Promise<void> {
    const temporary = join(dirname(path), `${temporaryPrefix}${process.pid}-${randomName(entropy)}`)
    try {
      await mkdir(dirname(path), { recursive: true, mode: directoryMode })
      const handle = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, fileMode)
      try {
        await handle.writeFile(bytes)
      } finally {
        await handle.close()
      }
      await rename(temporary, path)
    } catch (error) {
      await removeFile(temporary)
      throw error
    }
  }

  async function* filesOf(kind: CachedKind): AsyncGenerator<{ readonly name: string; readonly path: string }> {
    const top = join(root, folders[kind])
    for (const folder of await entriesOf(top)) {
      if (!folder.isDirectory() || !/^[0-9a-f]{2}$/.test(folder.name)) continue
      for (const { name } of await entriesOf(join(top, folder.name))) yield { name, path: join(top, folder.name, name) }
    }
  }

  return {
    async get(object) {
      const path = pathOf(object)
      if (path === undefined) return undefined
      try {
        const bytes = await readFile(path)
        if (sha256(bytes) === object.name) return bytes
        await removeFile(path)
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') tell(error, 'reading from the cache', path)
      }
      return undefined
    },
    async getRange(object, { offset, length }) {
      const path = pathOf(object)
      if (path === undefined) return undefined
      try {
        const handle = await open(path, constants.O_RDONLY)
        try {
          const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafeSlow(length), 0, length, offset)
          return bytesRead === length ? buffer : undefined
        } finally {
          await handle.close()
        }
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') tell(error, 'reading from the cache', path)
        return undefined
      }
    },
    async put(object, bytes) {
      const path = pathOf(object)
      if (path === undefined || !isWritable || sha256(bytes) !== object.name) return
      try {
        await write(path, bytes)
      } catch (error) {
        isWritable = false
        tell(error, 'writing to the cache', path)
      }
    },
    async remove(object) {
      const path = pathOf(object)
      if (path !== undefined) await removeFile(path)
    },
    async names(kind) {
      const names = new Set<string>()
      try {
        for await (const { name } of filesOf(kind)) if (isId(name)) names.add(name)
      } catch (error) {
        tell(error, 'looking into the cache', root)
      }
      return names
    },
    async retain(kind, isThere) {
      try {
        for await (const { name, path } of filesOf(kind)) {
          if (isId(name) ? isThere(name) : !(await isOldTemporary(name, path, clock))) continue
          await removeFile(path)
        }
      } catch (error) {
        tell(error, 'tidying the cache', root)
      }
    },
    async trimPacks(bytesMax) {
      try {
        const packs: { readonly path: string; readonly bytes: number; readonly usedMs: number }[] = []
        for await (const { name, path } of filesOf('pack')) {
          const status = isId(name) ? await statusOf(path) : undefined
          if (status !== undefined) packs.push({ path, bytes: status.size, usedMs: status.mtimeMs })
        }
        let bytes = packs.reduce((sum, pack) => sum + pack.bytes, 0)
        for (const pack of packs.sort((one, other) => one.usedMs - other.usedMs)) {
          if (bytes <= bytesMax) return
          await removeFile(pack.path)
          bytes -= pack.bytes
        }
      } catch (error) {
        tell(error, 'tidying the cache', root)
      }
    },
  }
}

export const isCachedKind = (kind: string): kind is CachedKind => Object.hasOwn(folders, kind)

function randomName(entropy: Entropy): string {
  const bytes = Buffer.alloc(8)
  entropy.fill(bytes)
  return bytes.toString('hex')
}

async function isOldTemporary(name: string, path: string, clock: Clock): Promise<boolean> {
  if (!name.startsWith(temporaryPrefix)) return false
  const status = await statusOf(path)
  return status !== undefined && clock.wallMs() - status.mtimeMs > temporaryAgeMsMax
}

async function entriesOf(path: string): Promise<Dirent[]> {
  try {
    return await readdir(path, { withFileTypes: true })
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}

async function statusOf(path: string): Promise<{ readonly size: number; readonly mtimeMs: number } | undefined> {
  try {
    return await stat(path)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

/** As restic's: caches that no command has opened for so long are of repositories that are gone, or not used here. */
const unusedAgeMsMax = 30 * 24 * 60 * 60 * 1000

export interface RemoveUnusedOptions {
  readonly directory: string
  readonly clock: Clock
  /** The one that is being used. */
  readonly except: string
}

/**
 * Removes the caches of other repositories that were not opened for 30 days. Returns how many.
 * @throws Failure `storage_denied`, `storage_failed`
 */
export async function removeUnusedCaches({ directory, clock, except }: RemoveUnusedOptions): Promise<number> {
  let removed = 0
  try {
    for (const entry of await entriesOf(directory)) {
      if (!entry.isDirectory() || !isId(entry.name) || entry.name === except) continue
      const path = join(directory, entry.name)
      const status = await statusOf(path)
      if (status === undefined || clock.wallMs() - status.mtimeMs <= unusedAgeMsMax) continue
      await rm(path, { recursive: true, force: true })
      removed += 1
    }
  } catch (error) {
    throw storageFailure(error, 'removing old caches from', directory)
  }
  return removed
}
