/**
 * Owns saving what is ordinary in a directory, many entries at a time, with what a thread has found out about them
 * (scan-files.ts). Entries that it leaves out are saved one by one: save-directory.ts.
 */
import type { AnchoredDirectory } from '../anchored-directory.ts'
import { chunkBytesMin } from '../chunk/cutter.ts'
import type { WindowBlob } from './blob-sink.ts'
import type { Walk } from './save-directory.ts'
import type { ScannedEntry, ScannedFiles, ScanRules } from './scan-files.ts'

/** Names in one task. */
const namesMax = 1000
/** About what looking at an entry costs, in bytes that could be sealed meanwhile. */
const entryBytes = 8 << 10
/** However it is cut, a file of this length is one chunk. */
const oneChunkBytes = 64 << 10

export interface ScannedFolder {
  readonly directory: AnchoredDirectory
  readonly prefix: string
  /** Sorted by their bytes. */
  readonly names: readonly string[]
  /** Its tree in the parent, in shared memory. */
  readonly parent: Uint8Array | undefined
  /** Takes what is saved, as it stands in the tree. */
  readonly entries: Map<string, string>
}

/** Returns the names of what is left to save, in order. */
export async function saveScanned(walk: Walk, folder: ScannedFolder): Promise<readonly string[]> {
  const { options } = walk
  const names = folder.names.filter((name) => options.exclude?.(`${folder.prefix}${name}`) !== true)
  // Who asks about each entry's status, or keeps when it was read, is told entry by entry.
  if (options.excludeEntry !== undefined || options.withAtime === true) return names
  const left: string[] = []
  const sealing: Promise<void>[] = []
  let parentAt = 0
  try {
    for (let at = 0; at < names.length; ) {
      const batch = names.slice(at, at + namesMax)
      const { files, sealed } = await scanBatch(walk, folder, { names: batch, parentAt }, left)
      sealing.push(sealed)
      parentAt = files.parentAt
      at += files.entries.length
    }
  } finally {
    await Promise.allSettled(sealing)
  }
  await Promise.all(sealing)
  return left
}

interface Batch {
  readonly names: readonly string[]
  readonly parentAt: number
}

async function scanBatch(walk: Walk, folder: ScannedFolder, { names, parentAt }: Batch, left: string[]) {
  const { context, options } = walk
  const signal =
    options.signal === undefined ? context.lockSignal : AbortSignal.any([context.lockSignal, options.signal])
  const { directory, parent } = folder
  const slab = await context.content.windows.take(signal)
  let isSealing = false
  try {
    const input = {
      path: new Uint8Array(directory.child('')),
      names,
      window: slab.bytes,
      rules: rulesOf(walk),
      parent: parent === undefined ? undefined : { tree: parent, at: parentAt },
    }
    const files: ScannedFiles = await context.vault.work.run('scanFiles', input, {
      bytes: names.length * entryBytes,
      signal,
    })
    const blobs = files.entries.flatMap((entry, at) => {
      const name = names[at] ?? ''
      const isTaken = entry.kind !== 'other' && takes(walk, folder, name, entry)
      if (!isTaken) left.push(name)
      return isTaken && entry.kind === 'read' ? blobOf(entry) : []
    })
    const sealed = context.sink.putAll(slab.bytes, blobs).finally(slab.release)
    sealed.catch(() => undefined) // awaited by the caller, who may still be busy
    isSealing = true
    return { files, sealed }
  } finally {
    if (!isSealing) slab.release()
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
    wantsNodes: options.onEntry !== undefined,
    wantsFingerprints: options.expect !== undefined,
  }
}

function blobOf({ id, offset, bytes }: Extract<ScannedEntry, { kind: 'read' }>): readonly WindowBlob[] {
  return id === undefined ? [] : [{ id, offset, length: bytes }]
}

/** Whether the entry could be taken as it was found. */
function takes(
  walk: Walk,
  { prefix, entries }: ScannedFolder,
  name: string,
  entry: Exclude<ScannedEntry, { kind: 'other' }>,
): boolean {
  const { options, context } = walk
  if (entry.kind === 'known' && !entry.content.every((id) => context.sink.has(id, 'data'))) return false
  const path = `${prefix}${name}`
  entries.set(name, entry.json)
  walk.unseen.delete(path)
  if (options.expect !== undefined && options.expect.get(path) !== entry.fingerprint) walk.changed.add(path)
  if (entry.kind === 'read') options.chunking?.(path, entry.bytes)
  if (entry.kind === 'read' || entry.isFile) {
    walk.files += 1
    walk.bytes += entry.bytes
    options.onProgress?.({ files: walk.files, bytes: walk.bytes, path })
  }
  if (entry.node !== undefined) options.onEntry?.({ path, node: entry.node, parent: entry.parent })
  return true
}
