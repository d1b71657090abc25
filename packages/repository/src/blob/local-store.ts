/**
 * Owns the backend on a local file system, in the default layout of restic: `config`, `data/xx/…`, `index/`, `keys/`,
 * `locks/`, `snapshots/`.
 *
 * Invariants: 1. an object appears under its name only whole and after its bytes are on disk: temporary name in the
 * same directory, fsync, hard link (which fails where the name exists), unlink, fsync of the directory. 2. An fsync
 * that failed is never tried again: the kernel may have dropped the pages and would report success (Rebello et al.,
 * "Can Applications Recover from fsync Failures?", ATC 2020). The put fails and its object is removed.
 */
import { type Dirent, lstatSync } from 'node:fs'
import { type FileHandle, link, mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises'
import { dirname, join, resolve, sep } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { Failure } from '@stillpoint/core/kernel'
import { isId } from '../format/ids.ts'
import type { BlobStore, ByteRange, ObjectKind, ObjectName, StoredObject } from './blob-store.ts'
import { errnoOf, storageFailure } from './storage-failure.ts'

const folders = { key: 'keys', lock: 'locks', snapshot: 'snapshots', index: 'index', pack: 'data' } as const
const directoryMode = 0o700
const fileMode = 0o400
/** Looking at so many takes less than a millisecond, or a few on a disk that is far away. */
const batchObjectsMax = 64
const temporaryMark = '-tmp-'
const packFolders = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))
/** What file systems without hard links answer. */
const noLinks = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'])

/** A store in a directory, which need not exist yet: `prepare` makes it. */
export function openLocalStore(path: string): BlobStore {
  const root = resolve(path)
  let temporaries = 0
  const locate = (object: ObjectName) => pathOf(root, object)
  const temporaryFor = (final: string) => {
    temporaries += 1
    return `${final}${temporaryMark}${process.pid}-${temporaries}`
  }
  return {
    traits: { atomicCreate: true, takesShared: true },
    locate,
    prepare: () => naming('preparing', root, () => prepare(root)),
    put: (object, bytes) => naming('writing', locate(object), () => putFile(locate(object), bytes, temporaryFor)),
    get: (object, range) => naming('reading', locate(object), () => getFile(object, locate(object), range)),
    size: (object) => naming('looking at', locate(object), () => sizeOf(locate(object))),
    list: (kind) => listObjects(root, kind),
    delete: (object) => naming('deleting', locate(object), () => deleteFile(object, locate(object))),
    sweep: () => naming('sweeping', root, () => sweep(root)),
  }
}

function folderOf(kind: ObjectKind): string {
  return kind === 'config' ? '.' : folders[kind]
}

function pathOf(root: string, { kind, name }: ObjectName): string {
  if (kind === 'config') return join(root, 'config')
  if (!isId(name)) {
    throw new Failure({ code: 'object_missing', message: `${JSON.stringify(name)} is no name of a ${kind}` })
  }
  return kind === 'pack' ? join(root, folders.pack, name.slice(0, 2), name) : join(root, folders[kind], name)
}

async function naming<T>(doing: string, path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action()
  } catch (error) {
    throw storageFailure(error, doing, path)
  }
}

async function prepare(root: string): Promise<void> {
  const places = Object.values(folders).map((folder) => join(root, folder))
  for (const place of [root, ...places, ...packFolders.map((folder) => join(root, folders.pack, folder))]) {
    await mkdir(place, { recursive: place === root, mode: directoryMode }).catch(unlessThere)
  }
  for (const place of [join(root, folders.pack), root, dirname(root)]) await syncDirectory(place)
}

function unlessThere(error: unknown): void {
  if (errnoOf(error) !== 'EEXIST') throw error
}

async function putFile(
  final: string,
  bytes: Uint8Array,
  temporaryFor: (final: string) => string,
): Promise<'created' | 'exists'> {
  const temporary = await writeTemporary(final, bytes, temporaryFor)
  let outcome: 'created' | 'exists'
  try {
    outcome = await publish(temporary, final)
  } finally {
    await unlink(temporary).catch(unlessGone)
  }
  try {
    await syncDirectory(dirname(final))
  } catch (error) {
    // Invariant 2: whether the name is durable is unknown, so it must not be found and taken for stored.
    if (outcome === 'created') await unlink(final).catch(unlessGone)
    throw error
  }
  return outcome
}

async function writeTemporary(
  final: string,
  bytes: Uint8Array,
  temporaryFor: (final: string) => string,
): Promise<string> {
  for (;;) {
    const temporary = temporaryFor(final)
    let handle: FileHandle
    try {
      handle = await open(temporary, 'wx', fileMode)
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') continue // a dead process with our pid has left it
      if (errnoOf(error) !== 'ENOENT' || !(await madeFolder(dirname(final)))) throw error
      continue
    }
    try {
      await handle.writeFile(bytes)
      await handle.sync()
      await handle.close()
      return temporary
    } catch (error) {
      await handle.close().catch(() => undefined) // the first error is the one to report
      await unlink(temporary).catch(unlessGone)
      throw error
    }
  }
}

/** Makes a folder below `data`, which other programs may have left out; not a whole repository. */
async function madeFolder(folder: string): Promise<boolean> {
  const parent = dirname(folder)
  if ((await sizeOf(parent)) === undefined) return false
  await mkdir(folder, { mode: directoryMode }).catch(unlessThere)
  await syncDirectory(parent)
  return true
}

async function publish(temporary: string, final: string): Promise<'created' | 'exists'> {
  try {
    await link(temporary, final)
    return 'created'
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'EEXIST') return 'exists'
    if (errno === undefined || !noLinks.has(errno)) throw error
  }
  // Without hard links the check and the rename are two steps: create-only among careful clients, no more.
  if ((await sizeOf(final)) !== undefined) return 'exists'
  await rename(temporary, final)
  return 'created'
}

function unlessGone(error: unknown): void {
  if (errnoOf(error) !== 'ENOENT') throw error
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function getFile(object: ObjectName, path: string, range: ByteRange | undefined): Promise<Buffer> {
  const handle = await open(path, 'r').catch((error: unknown) => {
    throw missingWhenAbsent(error, object, path)
  })
  try {
    const { offset, length } = range ?? { offset: 0, length: (await handle.stat()).size }
    const bytes = Buffer.allocUnsafeSlow(length)
    let filled = 0
    while (filled < length) {
      const { bytesRead } = await handle.read(bytes, filled, length - filled, offset + filled)
      if (bytesRead === 0) throw truncated(object, path, `it ends before byte ${offset + length}`)
      filled += bytesRead
    }
    return bytes
  } finally {
    await handle.close()
  }
}

function truncated(object: ObjectName, path: string, reason: string): Failure {
  return new Failure({
    code: 'object_damaged',
    message: `${object.kind} ${object.name} at ${path} is damaged: ${reason}`,
    hint: 'Check the disk, then see what is affected: check the repository with all data read.',
  })
}

function missingWhenAbsent(error: unknown, object: ObjectName, path: string): unknown {
  const errno = errnoOf(error)
  if (errno !== 'ENOENT' && errno !== 'ENOTDIR') return error
  return new Failure({
    code: 'object_missing',
    message: `${object.kind} ${object.name} is not at ${path}`,
    cause: error,
  })
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined
    throw error
  }
}

/** After each batch, everything else of the program gets its turn. */
async function* listObjects(root: string, kind: ObjectKind): AsyncGenerator<readonly StoredObject[]> {
  try {
    if (kind === 'config') {
      const bytes = await sizeOf(join(root, 'config'))
      if (bytes !== undefined) yield [{ name: 'config', bytes }]
      return
    }
    for (const folder of await foldersOf(root, kind)) {
      const names = await noneWhereAbsent(readdir(folder))
      for (let at = 0; at < names.length; at += batchObjectsMax) {
        yield objectsAmong(names.slice(at, at + batchObjectsMax), folder)
        await setImmediate()
      }
    }
  } catch (error) {
    throw storageFailure(error, 'listing', join(root, folderOf(kind)))
  }
}

/**
 * Looks at them one after another without waiting: a promise for each, in a repository of many packs, took twice as long
 * as all the rest of a check. A disk that does not answer holds the program up meanwhile.
 */
function objectsAmong(names: readonly string[], folder: string): readonly StoredObject[] {
  const found: StoredObject[] = []
  for (const name of names) {
    if (!isId(name)) continue
    const status = lstatSync(`${folder}${sep}${name}`, { throwIfNoEntry: false })
    if (status?.isFile()) found.push({ name, bytes: status.size })
  }
  return found
}

async function foldersOf(root: string, kind: Exclude<ObjectKind, 'config'>): Promise<string[]> {
  const top = join(root, folders[kind])
  if (kind !== 'pack') return [top]
  const entries = await entriesOf(top)
  return entries.filter((entry) => /^[0-9a-f]{2}$/.test(entry.name)).map((entry) => join(top, entry.name))
}

const entriesOf = (folder: string): Promise<Dirent[]> => noneWhereAbsent(readdir(folder, { withFileTypes: true }))

async function noneWhereAbsent<T>(reading: Promise<T[]>): Promise<T[]> {
  try {
    return await reading
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}

async function deleteFile(object: ObjectName, path: string): Promise<void> {
  await unlink(path).catch((error: unknown) => {
    throw missingWhenAbsent(error, object, path)
  })
  await syncDirectory(dirname(path))
}

async function sweep(root: string): Promise<number> {
  let swept = 0
  const kinds = ['key', 'lock', 'snapshot', 'index', 'pack'] as const
  const places = [root, ...(await Promise.all(kinds.map((kind) => foldersOf(root, kind)))).flat()]
  for (const place of places) {
    for (const entry of await entriesOf(place)) {
      const [name = '', rest] = entry.name.split(temporaryMark)
      if (rest === undefined || !entry.isFile() || !(isId(name) || name === 'config')) continue
      await unlink(join(place, entry.name)).catch(unlessGone)
      swept += 1
    }
  }
  return swept
}
