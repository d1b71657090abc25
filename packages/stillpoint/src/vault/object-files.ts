/**
 * The objects of all repositories of a vault, as files in restic's layout.
 *
 * Owns: writing, reading, listing and deleting them, and what a crash leaves. Does not own: who may (vault-app.ts), nor
 * names from outside (request-target.ts has checked them).
 *
 * Invariants:
 * 1. An object appears under its name only whole, with the content that its name says (SHA-256), and after its bytes
 *    are on disk: temporary file, hash, fsync, hard link (which fails where the name exists), fsync of the folder.
 * 2. Nothing else ever changes an object; `exists` is answered only for the same content, when it is durable.
 * 3. Temporary files are in `.uploads` of the user, which no URL can name. A new life of the vault removes them: one
 *    vault runs on a directory (vault-lock.ts).
 * 4. An fsync that failed is never tried again, and its object is removed: the kernel may have dropped the pages
 *    (Rebello et al., ATC 2020).
 * 5. A file's bytes pass through: memory does not grow with their number.
 */
import { createHash, type Hash } from 'node:crypto'
import { constants, type Dirent } from 'node:fs'
import { type FileHandle, link, lstat, mkdir, open, opendir, readdir, rename, rm, stat, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { errnoOf, storageFailure } from '@stillpoint/repository'
import {
  type ObjectAt,
  type ObjectFolder,
  objectFolders,
  objectPath,
  type RepositoryAt,
  repositoryPath,
} from './request-target.ts'

export const uploadsFolder = '.uploads'
const directoryMode = 0o700
const fileMode = 0o400
const statsAtOnce = 16
const idPattern = /^[0-9a-f]{64}$/
/** What file systems without hard links answer. */
const noLinks = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'])

export interface Upload {
  readonly place: RepositoryAt
  readonly object: ObjectAt
  readonly stream: AsyncIterable<Uint8Array>
  /** Called with each piece's length before it is written; what it throws ends the upload. */
  readonly admit: (bytes: number) => void
}

export interface Uploaded {
  readonly outcome: 'created' | 'exists'
  readonly bytes: number
}

export interface OpenedObject {
  readonly file: FileHandle
  readonly bytes: number
}

export interface ListedObject {
  readonly name: string
  readonly bytes: number
}

export interface ObjectFiles {
  /** Makes the folders of a repository. Idempotent. */
  create(place: RepositoryAt): Promise<void>
  /**
   * @throws Failure `upload_damaged` (the content is not what the name says), `object_exists` (with other content),
   *   `repository_absent`, `no_space`, `storage_denied`, `storage_failed`, and what `stream` and `admit` throw
   */
  put(upload: Upload): Promise<Uploaded>
  /** Undefined where there is none. Whoever gets it closes the file. */
  open(place: RepositoryAt, object: ObjectAt): Promise<OpenedObject | undefined>
  size(place: RepositoryAt, object: ObjectAt): Promise<number | undefined>
  /** How many bytes were freed; undefined where there was none. Durable when it resolves. */
  remove(place: RepositoryAt, object: ObjectAt): Promise<number | undefined>
  /** Undefined where there is no repository. */
  list(place: RepositoryAt, folder: ObjectFolder): Promise<AsyncGenerator<ListedObject> | undefined>
  /** Removes what earlier lives have left half-written. Returns how many. */
  sweep(): Promise<number>
  /** Resolves when nothing is being written or deleted any more. */
  idle(): Promise<void>
}

export function openObjectFiles(root: string): ObjectFiles {
  const turns = createTurns()
  const changes = new Set<Promise<unknown>>()
  let uploads = 0

  async function put(upload: Upload): Promise<Uploaded> {
    const { place, object } = upload
    const path = objectPath(root, place, object)
    // An upload of the same name that is being published is either there and durable after this, or not at all.
    const isThere = await turns(path, async () => (await sizeOf(path)) !== undefined)
    if (isThere) {
      const arrived = await hashed(upload)
      return turns(path, () => confirm(path, upload, arrived))
    }
    await makeFolder(root, upload)
    uploads += 1
    const draft = join(root, place.user, uploadsFolder, `${process.pid}-${uploads}`)
    const arrived = await writeDraft(draft, upload)
    try {
      checkHash(upload, arrived)
      return await turns(path, async () => {
        if (!(await publish(draft, path))) return confirm(path, upload, arrived)
        return { outcome: 'created', bytes: arrived.bytes }
      })
    } finally {
      await unlink(draft).catch(unlessGone)
    }
  }

  async function changing<T>(change: Promise<T>): Promise<T> {
    changes.add(change)
    try {
      return await change
    } finally {
      changes.delete(change)
    }
  }

  return {
    create: (place) => naming('making the repository', repositoryPath(root, place), () => create(root, place)),
    put: (upload) => changing(naming('writing', objectPath(root, upload.place, upload.object), () => put(upload))),
    open: (place, object) => {
      const path = objectPath(root, place, object)
      return naming('reading', path, () => openFile(path))
    },
    size: (place, object) => {
      const path = objectPath(root, place, object)
      return naming('looking at', path, () => sizeOf(path))
    },
    remove: (place, object) => {
      const path = objectPath(root, place, object)
      return changing(naming('deleting', path, () => turns(path, () => remove(path))))
    },
    list: (place, folder) => {
      const path = repositoryPath(root, place)
      return naming('listing', path, async () => {
        if (!(await isDirectory(path))) return undefined
        return listed(join(path, folder), folder === 'data')
      })
    },
    async idle() {
      // Their failures are told to those who asked for them.
      while (changes.size > 0) await Promise.allSettled(changes)
    },
    sweep: () => naming('sweeping', root, () => sweep(root)),
  }
}

async function naming<T>(doing: string, path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action()
  } catch (error) {
    // Only the operating system's errors are storage's; a connection that was cut has its own name.
    const isSystem = error instanceof Error && 'syscall' in error && 'path' in error
    throw isSystem || isOutOfSpace(error) ? storageFailure(error, doing, path) : error
  }
}

function isOutOfSpace(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT', 'EIO', 'EROFS'].includes(errnoOf(error) ?? '')
}

interface Arrived {
  readonly bytes: number
  readonly digest: string
}

/** Reads an upload of what is there already: nothing is written. */
async function hashed({ stream, admit }: Upload): Promise<Arrived> {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const piece of stream) {
    admit(piece.length)
    hash.update(piece)
    bytes += piece.length
  }
  return { bytes, digest: hash.digest('hex') }
}

async function writeDraft(draft: string, upload: Upload): Promise<Arrived> {
  const file = await open(draft, 'wx', fileMode)
  let bytes = 0
  try {
    const hash: Hash = createHash('sha256')
    for await (const piece of upload.stream) {
      upload.admit(piece.length)
      hash.update(piece)
      await writeAll(file, piece)
      bytes += piece.length
    }
    await file.sync()
    await file.close()
    return { bytes, digest: hash.digest('hex') }
  } catch (error) {
    await file.close().catch(() => undefined) // the first error is the one to report
    await unlink(draft).catch(unlessGone)
    throw error
  }
}

async function writeAll(file: FileHandle, piece: Uint8Array): Promise<void> {
  let written = 0
  while (written < piece.length) {
    const { bytesWritten } = await file.write(piece, written)
    written += bytesWritten
  }
}

/** The config alone is not named after its content. */
function checkHash({ object }: Upload, { bytes, digest }: Arrived): void {
  if (object.folder === 'config' || digest === object.name) return
  throw new Failure({
    code: 'upload_damaged',
    message: `The ${bytes} bytes that arrived for ${object.folder}/${object.name} are not what its name says: their SHA-256 is ${digest}`,
    hint: 'They were changed on the way, or by the client. Send them again.',
    retry: 'later',
  })
}

/** There is an object already. Invariant 2. */
async function confirm(path: string, { object }: Upload, { bytes, digest }: Arrived): Promise<Uploaded> {
  const expected = object.folder === 'config' ? await digestOf(path) : object.name
  if (digest === expected) {
    await syncDirectory(dirname(path))
    return { outcome: 'exists', bytes }
  }
  throw new Failure({
    code: 'object_exists',
    message: `${object.folder === 'config' ? 'config' : `${object.folder}/${object.name}`} is there already, with other content`,
    hint: 'Nothing is overwritten.',
  })
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  const file = await open(path, 'r')
  try {
    for await (const piece of file.createReadStream({ autoClose: false })) hash.update(piece)
  } finally {
    await file.close()
  }
  return hash.digest('hex')
}

/** Gives the draft its name. False where that is taken. */
async function publish(draft: string, path: string): Promise<boolean> {
  if (!(await linked(draft, path))) return false
  try {
    await syncDirectory(dirname(path))
    return true
  } catch (error) {
    await unlink(path).catch(unlessGone) // invariant 4
    throw error
  }
}

async function linked(draft: string, path: string): Promise<boolean> {
  try {
    await link(draft, path)
    return true
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'EEXIST') return false
    if (errno === undefined || !noLinks.has(errno)) throw error
  }
  // Without hard links: nobody else writes here, and within this process names are published in turn.
  if ((await sizeOf(path)) !== undefined) return false
  await rename(draft, path)
  return true
}

async function create(root: string, place: RepositoryAt): Promise<void> {
  const path = repositoryPath(root, place)
  let made = root
  for (const part of [place.user, ...place.name.split('/').filter((name) => name !== '')]) {
    made = join(made, part)
    await makeDirectory(made)
  }
  for (const folder of objectFolders) await makeDirectory(join(path, folder))
}

/** The folder that an upload goes to, and the one where it is written before. */
async function makeFolder(root: string, { place, object }: Upload): Promise<void> {
  const repository = repositoryPath(root, place)
  if (!(await isDirectory(repository))) throw repositoryAbsent(place)
  await makeDirectory(join(root, place.user, uploadsFolder))
  if (object.folder === 'config') return
  await makeDirectory(join(repository, object.folder))
  if (object.folder === 'data') await makeDirectory(dirname(objectPath(root, place, object)))
}

export function repositoryAbsent({ user, name }: RepositoryAt): Failure {
  const where = name === '' ? user : `${user}/${name}`
  return new Failure({
    code: 'repository_absent',
    message: `There is no repository ${where}`,
    hint: 'Make it first: "restic init" does.',
  })
}

async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: directoryMode })
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return
    throw error
  }
  await syncDirectory(dirname(path))
}

async function openFile(path: string): Promise<OpenedObject | undefined> {
  let file: FileHandle
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    // ELOOP: a symbolic link, which no upload makes.
    if (isAbsence(error) || errnoOf(error) === 'ELOOP') return undefined
    throw error
  }
  try {
    const status = await file.stat()
    if (status.isFile()) return { file, bytes: status.size }
  } catch (error) {
    await file.close()
    throw error
  }
  await file.close()
  return undefined
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    const status = await lstat(path)
    return status.isFile() ? status.size : undefined
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw error
  }
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch (error) {
    if (isAbsence(error)) return false
    throw error
  }
}

async function remove(path: string): Promise<number | undefined> {
  const bytes = await sizeOf(path)
  if (bytes === undefined) return undefined
  await unlink(path)
  await syncDirectory(dirname(path))
  return bytes
}

async function* listed(path: string, isSplit: boolean): AsyncGenerator<ListedObject> {
  if (!isSplit) {
    yield* listedIn(path)
    return
  }
  for (const entry of await entriesOf(path)) {
    if (entry.isDirectory() && /^[0-9a-f]{2}$/.test(entry.name)) yield* listedIn(join(path, entry.name))
  }
}

async function* listedIn(path: string): AsyncGenerator<ListedObject> {
  const directory = await opendir(path).catch((error: unknown) => {
    if (isAbsence(error)) return undefined
    throw error
  })
  let names: string[] = []
  for await (const { name } of directory ?? []) {
    if (!idPattern.test(name)) continue
    names.push(name)
    if (names.length < statsAtOnce) continue
    yield* await measured(path, names)
    names = []
  }
  yield* await measured(path, names)
}

async function measured(path: string, names: readonly string[]): Promise<readonly ListedObject[]> {
  const sizes = await Promise.all(names.map((name) => sizeOf(join(path, name))))
  return names.flatMap((name, at) => {
    const bytes = sizes[at]
    return bytes === undefined ? [] : [{ name, bytes }]
  })
}

async function entriesOf(path: string): Promise<Dirent[]> {
  try {
    return await readdir(path, { withFileTypes: true })
  } catch (error) {
    if (isAbsence(error)) return []
    throw error
  }
}

async function sweep(root: string): Promise<number> {
  let swept = 0
  for (const user of await entriesOf(root)) {
    if (!user.isDirectory()) continue
    const uploads = join(root, user.name, uploadsFolder)
    for (const entry of await entriesOf(uploads)) {
      await rm(join(uploads, entry.name), { force: true })
      swept += 1
    }
  }
  return swept
}

function isAbsence(error: unknown): boolean {
  const errno = errnoOf(error)
  return errno === 'ENOENT' || errno === 'ENOTDIR'
}

function unlessGone(error: unknown): void {
  if (errnoOf(error) !== 'ENOENT') throw error
}

async function syncDirectory(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** One after the other for each path; different paths do not wait for each other. */
function createTurns(): <T>(path: string, action: () => Promise<T>) => Promise<T> {
  const last = new Map<string, Promise<unknown>>()
  return (path, action) => {
    const turn = (last.get(path) ?? Promise.resolve()).then(action, action)
    const settled = turn.then(
      () => undefined,
      () => undefined, // told to the caller of this turn
    )
    last.set(path, settled)
    return turn.finally(() => {
      if (last.get(path) === settled) last.delete(path)
    })
  }
}
