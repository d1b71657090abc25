/**
 * Owns saving what is ordinary in a directory, many entries at a time, with what a thread has found out about them
 * (scan-files.ts). Entries that it leaves out are saved one by one: save-directory.ts.
 */
import { type HeldDirectory, heldBy } from '../anchored-directory.ts'
import { chunkBytesMin } from '../chunk/cutter.ts'
import { directoryItself, readAttributes } from '../extended-attributes.ts'
import type { NodeMetadata } from '../format/tree.ts'
import type { Slab } from '../work/slabs.ts'
import type { WindowBlob } from './blob-sink.ts'
import { compareWithManifest } from './manifest.ts'
import type { Walk } from './save-directory.ts'
import type { ScannedEntry, ScannedFiles, ScanRules } from './scan-files.ts'

/** Names in one task. */
const namesMax = 1000
/** About what looking at an entry costs, in bytes that could be sealed meanwhile. */
const entryBytes = 8 << 10
/** The same of opening a directory. */
const folderBytes = 32 << 10
const noWindow = new Uint8Array(0)
/** However it is cut, a file of this length is one chunk. */
const oneChunkBytes = 64 << 10

/** What a thread has found out, and the memory that holds what it has read. */
interface ScannedBatch {
  readonly files: ScannedFiles
  /** Undefined where nothing was read. */
  readonly slab: Slab | undefined
}

/** A directory that is open: somebody closes it. */
export interface OpenFolder {
  readonly directory: Pick<HeldDirectory, 'child'>
  /** Sorted by their bytes. */
  readonly names: readonly string[]
  /** What of the first names has been found out. */
  readonly first?: ScannedBatch
}

export interface FolderToSave extends OpenFolder {
  readonly prefix: string
  /** Its tree in the parent, in shared memory. */
  readonly parent: Uint8Array | undefined
  /** Takes what is saved, as it stands in the tree. */
  readonly entries: Map<string, string>
}

/** What is left to save, in order. */
interface Left {
  readonly names: string[]
  /** Those of them that are directories; others may turn out to be. */
  readonly folders: Set<string>
}

/** Who asks about each entry's status, or keeps when it was read, is told entry by entry. */
const looksAtEach = ({ options }: Walk) => options.excludeEntry !== undefined || options.withAtime === true

export interface SubfolderToOpen {
  readonly name: string
  readonly path: string
  /** Its tree in the parent, in shared memory. */
  readonly parent: Uint8Array | undefined
}

/** Opens a directory in another one, and looks into it where nobody has to be asked what is to be looked at. */
export async function openSubfolder(
  walk: Walk,
  directory: Pick<HeldDirectory, 'child'>,
  { name, path, parent }: SubfolderToOpen,
): Promise<OpenFolder & { readonly metadata: NodeMetadata; close(): void }> {
  const { context, options, accounts } = walk
  const looks = options.exclude === undefined && !looksAtEach(walk)
  // Where there is none, it is looked at as far as nothing has to be read.
  const slab = looks ? context.content.windows.tryTake() : undefined
  try {
    const at = directory.child(name)
    const scan = !looks
      ? undefined
      : { window: slab?.bytes ?? noWindow, rules: rulesOf(walk), parent: parentAt(parent, 0), namesMax }
    const input = { path: new Uint8Array(at), name, accounts, withAtime: options.withAtime === true, scan }
    // No signal: what it has opened must be taken and closed.
    const { fd, metadata, lacksAttributes, names, files } = await context.vault.work.run('scanFolder', input, {
      bytes: folderBytes,
    })
    const opened = heldBy(fd, at)
    if (lacksAttributes) {
      const { failure } = readAttributes(directoryItself(opened.child))
      if (failure !== undefined) walk.errors.push({ path, failure })
    }
    const first = files === undefined ? {} : { first: { files, slab } }
    return { directory: opened, names, metadata, close: opened.close, ...first }
  } catch (error) {
    slab?.release()
    throw error
  }
}

export async function saveScanned(walk: Walk, folder: FolderToSave): Promise<Left> {
  const { options } = walk
  const { first, prefix } = folder
  const names = folder.names.filter((name) => options.exclude?.(`${prefix}${name}`) !== true)
  if (looksAtEach(walk)) return { names, folders: new Set() }
  const left: Left = { names: [], folders: new Set() }
  const sealing: Promise<void>[] = []
  let [done, position] = [0, 0]
  const take = (batch: ScannedBatch) => {
    sealing.push(takeBatch(walk, folder, { batch, names: names.slice(done, done + batch.files.entries.length), left }))
    done += batch.files.entries.length
    position = batch.files.parentAt
  }
  try {
    if (first !== undefined) take(first)
    while (done < names.length) {
      take(await scanBatch(walk, folder, { names: names.slice(done, done + namesMax), position }))
    }
  } finally {
    await Promise.allSettled(sealing)
  }
  await Promise.all(sealing)
  return left
}

interface Batch {
  readonly names: readonly string[]
  readonly position: number
}

async function scanBatch(walk: Walk, folder: FolderToSave, { names, position }: Batch): Promise<ScannedBatch> {
  const { context, signal } = walk
  const slab = await context.content.windows.take(signal)
  try {
    const input = {
      path: new Uint8Array(folder.directory.child('')),
      names,
      window: slab.bytes,
      rules: rulesOf(walk),
      parent: parentAt(folder.parent, position),
    }
    const bytes = names.length * entryBytes
    return { files: await context.vault.work.run('scanFiles', input, { bytes, signal }), slab }
  } catch (error) {
    slab.release()
    throw error
  }
}

const parentAt = (tree: Uint8Array | undefined, at: number) => (tree === undefined ? undefined : { tree, at })

interface BatchToTake {
  readonly batch: ScannedBatch
  readonly names: readonly string[]
  readonly left: Left
}

/** Resolves when what was read is sealed, and gives the memory back then. */
function takeBatch(walk: Walk, folder: FolderToSave, { batch, names, left }: BatchToTake): Promise<void> {
  const { files, slab } = batch
  let isSealing = false
  try {
    const blobs = files.entries.flatMap((entry, at) => {
      const name = names[at] ?? ''
      if (entry.kind === 'folder') left.folders.add(name)
      const isTaken = entry.kind !== 'other' && entry.kind !== 'folder' && takes(walk, folder, name, entry)
      if (!isTaken) left.names.push(name)
      return isTaken && entry.kind === 'read' ? blobOf(entry) : []
    })
    if (slab === undefined) return Promise.resolve()
    const sealed = walk.context.sink.putAll(slab.bytes, blobs).finally(slab.release)
    sealed.catch(() => undefined) // awaited by the caller, who may still be busy
    isSealing = true
    return sealed
  } finally {
    if (!isSealing) slab?.release()
  }
}

function rulesOf({ options, accounts }: Walk): ScanRules {
  return {
    accounts,
    parentTime: options.parentTime,
    ignoreCtime: options.ignoreCtime ?? false,
    ignoreInode: options.ignoreInode ?? false,
    ctimeTells: options.ctimeTells ?? true,
    fileBytesMax: options.chunking === undefined ? chunkBytesMin : oneChunkBytes,
    wantsFingerprints: options.expect !== undefined,
  }
}

function blobOf({ id, offset, bytes }: Extract<ScannedEntry, { kind: 'read' }>): readonly WindowBlob[] {
  return id === undefined ? [] : [{ id, offset, length: bytes }]
}

/** Whether the entry could be taken as it was found. */
function takes(
  walk: Walk,
  { prefix, entries }: FolderToSave,
  name: string,
  entry: Exclude<ScannedEntry, { kind: 'other' | 'folder' }>,
): boolean {
  const { options, context } = walk
  if (entry.kind === 'known' && !entry.content.every((id) => context.sink.has(id, 'data'))) return false
  const path = `${prefix}${name}`
  entries.set(name, entry.json)
  walk.unseen.delete(path)
  if (entry.fingerprint !== undefined) compareWithManifest(walk, path, entry.fingerprint)
  if (entry.kind === 'read') options.chunking?.(path, entry.bytes)
  if (entry.type === 'file') {
    walk.files += 1
    walk.bytes += entry.bytes
    options.onProgress?.({ files: walk.files, bytes: walk.bytes, path })
  }
  options.onEntry?.({ path, type: entry.type, bytes: entry.bytes, change: entry.change })
  return true
}
