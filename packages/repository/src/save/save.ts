/**
 * Owns a save: the time from the first byte to "everything is durable", under a shared lock.
 * Does not own snapshots: see seal.ts.
 *
 * Invariants: 1. the lock is held from the start to `finish` or `discard`. 2. The index is read after the lock is taken,
 * so that nothing is deduplicated against a pack that a prune has removed.
 */
import type { TreeId } from '@stillpoint/core/kernel'
import { readAccountNames } from '../account-names.ts'
import { sha256, treeId } from '../format/ids.ts'
import { timestampFromMs } from '../format/timestamp.ts'
import { encodeTree } from '../format/tree.ts'
import type { HeldLock } from '../upkeep/lock.ts'
import type { Vault } from '../vault.ts'
import { type BlobSink, createBlobSink } from './blob-sink.ts'
import { treeOfEncoded } from './parent-tree.ts'
import { type ContentSaver, createContentSaver, type SavedContent, type SaveStreamOptions } from './save-content.ts'
import { saveDirectory, saveEntries } from './save-directory.ts'
import { completeEntry, requireKnownType, requireStored, type TreeEntry } from './tree-entry.ts'
import type { SaveDirectoryOptions, SavedDirectory, SavedEntries, SaveEntriesOptions } from './walk.ts'

export type { SavedContent, SaveStreamOptions } from './save-content.ts'

/** All methods may be called at the same time. After a failure to store anything, all of them fail. */
export interface Save {
  saveStream(source: AsyncIterable<Uint8Array>, options?: SaveStreamOptions): Promise<SavedContent>
  saveBytes(bytes: Uint8Array, options?: SaveStreamOptions): Promise<SavedContent>
  /** Saves what is in a directory, recursively; see `SaveDirectoryOptions`. */
  saveDirectory(path: string, options?: SaveDirectoryOptions): Promise<SavedDirectory>
  /** Saves some entries of a directory: files, links, directories with what is in them. The directory itself is not listed. */
  saveEntries(path: string, options: SaveEntriesOptions): Promise<SavedEntries>
  /**
   * Saves one directory of a tree.
   * @throws Failure `tree_unsafe` (names), `node_unsupported`, `object_missing` (content or subtree that is not stored)
   */
  saveTree(entries: readonly TreeEntry[]): Promise<TreeId>
  /** Everything durable: packs, then indexes. Call it after all other calls have resolved. Releases the lock. */
  finish(): Promise<void>
  /** Gives up; what is stored and not indexed is removed. Releases the lock. Harmless after `finish`. */
  discard(): Promise<void>
}

/** What the parts of a save share. */
export interface SaveContext {
  readonly vault: Vault
  readonly sink: BlobSink
  readonly content: ContentSaver
  readonly saveTree: Save['saveTree']
  /** A tree whose entries are encoded and in order, and refer to what this save has taken in or found stored. */
  readonly saveEncodedTree: (entries: readonly string[]) => Promise<TreeId>
  /** See `readAccountNames`; read once. */
  readonly accounts: () => Promise<string>
  /** Aborted when the lock is lost. */
  readonly lockSignal: AbortSignal
}

export async function startSave(vault: Vault, lock: HeldLock): Promise<Save> {
  try {
    await vault.index.refresh()
  } catch (error) {
    await lock.release()
    throw error
  }
  const sink = createBlobSink(vault)
  const content = createContentSaver({ vault, sink, lockSignal: lock.signal })

  async function saveTree(entries: readonly TreeEntry[]): Promise<TreeId> {
    lock.signal.throwIfAborted()
    const time = timestampFromMs(vault.clock.wallMs())
    const nodes = entries.map((entry) => completeEntry(entry, time))
    const has = sink.has
    if (nodes.some((node) => !isStored(node, has))) await vault.index.refresh()
    for (const node of nodes) {
      requireKnownType(node)
      requireStored(node, has)
    }
    return putTree(encodeTree(nodes))
  }

  async function putTree(plaintext: Buffer): Promise<TreeId> {
    const id = treeId(sha256(plaintext))
    await sink.put({ id, type: 'tree', plaintext })
    return id
  }

  const saveEncodedTree = async (entries: readonly string[]) => {
    lock.signal.throwIfAborted()
    return putTree(treeOfEncoded(entries))
  }

  let names: Promise<string> | undefined
  const accounts = () => {
    names ??= readAccountNames()
    return names
  }

  let ended = false
  const context: SaveContext = { vault, sink, content, saveTree, saveEncodedTree, accounts, lockSignal: lock.signal }
  return {
    saveStream: content.saveStream,
    saveBytes: (bytes, options) => content.saveStream([bytes], options),
    saveDirectory: (path, options = {}) => saveDirectory(context, path, options),
    saveEntries: (path, options) => saveEntries(context, path, options),
    saveTree,
    async finish() {
      try {
        lock.signal.throwIfAborted()
        await sink.finish()
      } catch (error) {
        if (!ended) await sink.discard()
        throw error
      } finally {
        ended = true
        await lock.release()
      }
    },
    async discard() {
      if (ended) return
      ended = true
      try {
        await sink.discard()
      } finally {
        await lock.release()
      }
    },
  }
}

function isStored(node: Parameters<typeof requireStored>[0], has: BlobSink['has']): boolean {
  if (node.type === 'dir') return has(node.subtree, 'tree')
  return node.type !== 'file' || node.content.every((id) => has(id, 'data'))
}
