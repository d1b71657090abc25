/**
 * Owns what a thread tells of the entries that it has looked at (scan-names.ts, scan-folders.ts), in few long texts and
 * arrays: an object per entry in a message takes as long as it took to look at it.
 */
import type { TreeId } from '@stillpoint/core/kernel'
import { idsIn, sha256, treeId } from '../format/ids.ts'
import type { TreeNode } from '../format/tree.ts'
import type { WindowBlob } from './blob-sink.ts'
import type { EntryChange } from './entry-change.ts'
import { treeOfEncoded } from './parent-tree.ts'
import { bundleTrees, type EncodedTree, type TreeBundle } from './tree-bundle.ts'

/** An entry that is done: what becomes of it in a tree is known. */
export interface DoneEntry {
  /** Relative to the directory that the task was given. */
  readonly path: string
  readonly type: Extract<TreeNode['type'], 'file' | 'dir' | 'symlink'>
  /** Of a file; else 0. */
  readonly bytes: number
  /** Since the earlier snapshot. */
  readonly change: EntryChange
  /** A file whose content was read, and is not taken from the parent. */
  readonly isRead: boolean
  /** Where it is wanted. */
  readonly fingerprint: string | undefined
}

export interface Findings {
  /** Of what is done, a directory after what is in it; joined by NUL, which no name has. */
  readonly paths: string
  /** See `kindOf`. */
  readonly kinds: Uint8Array
  readonly bytes: Float64Array
  /** Of each entry, or of none. */
  readonly fingerprints: readonly string[]
  /** Content that was read into the window: ids, one after the other, and of each its offset and length. */
  readonly readIds: string
  readonly readPlaces: Uint32Array
  /** What the parent refers to and these entries do: it may be gone from the repository. */
  readonly knownData: string
  readonly knownTrees: string
  /** Of directories with all that is in them; not those that are known. */
  readonly trees: TreeBundle
}

export interface FindingsMaker {
  /** So much is known that the rest is for another task: disk images have a hundred thousand ids each. */
  readonly isMuch: boolean
  done(entry: DoneEntry): void
  read(blob: WindowBlob): void
  known(content: readonly string[]): void
  /** The tree of a directory. `parent`: what it was. */
  tree(entries: readonly string[], parent: EncodedTree | undefined): TreeId
  finish(): Findings
}

/** Ids of content. */
const knownMax = 50_000

const separator = '\0'
const types = ['file', 'dir', 'symlink'] as const
const changes = ['new', 'changed', 'unmodified'] as const
const readKind = types.length * changes.length

export function makeFindings(): FindingsMaker {
  const entries: DoneEntry[] = []
  const blobs: WindowBlob[] = []
  const trees: EncodedTree[] = []
  const [knownData, knownTrees]: [string[], string[]] = [[], []]
  return {
    get isMuch() {
      return knownData.length >= knownMax
    },
    done: (entry) => entries.push(entry),
    read: (blob) => blobs.push(blob),
    known(content) {
      for (const id of content) knownData.push(id)
    },
    tree(encoded, parent) {
      const plaintext = treeOfEncoded(encoded)
      if (parent !== undefined && plaintext.equals(parent.plaintext)) {
        knownTrees.push(parent.id)
        return parent.id
      }
      const id = treeId(sha256(plaintext))
      trees.push({ id, plaintext })
      return id
    },
    finish: () => ({
      paths: entries.map(({ path }) => path).join(separator),
      kinds: Uint8Array.from(entries, kindOf),
      bytes: Float64Array.from(entries, ({ bytes }) => bytes),
      fingerprints: entries.flatMap(({ fingerprint }) => fingerprint ?? []),
      readIds: blobs.map(({ id }) => id).join(''),
      readPlaces: Uint32Array.from(blobs.flatMap(({ offset, length }) => [offset, length])),
      knownData: knownData.join(''),
      knownTrees: knownTrees.join(''),
      trees: bundleTrees(trees),
    }),
  }
}

/** Which of all combinations it is. */
function kindOf({ type, change, isRead }: DoneEntry): number {
  return changes.indexOf(change) * types.length + types.indexOf(type) + (isRead ? readKind : 0)
}

/** Entries in the order in which they were done. */
export function* doneEntries({ paths, kinds, bytes, fingerprints }: Findings): Generator<DoneEntry> {
  if (kinds.length === 0) return
  let begin = 0
  for (let at = 0; at < kinds.length; at += 1) {
    const end = paths.indexOf(separator, begin)
    const kind = (kinds[at] ?? 0) % readKind
    yield {
      path: paths.slice(begin, end < 0 ? undefined : end),
      type: types[kind % types.length] ?? 'file',
      bytes: bytes[at] ?? 0,
      change: changes[Math.floor(kind / types.length)] ?? 'new',
      isRead: kinds[at] !== kind,
      fingerprint: fingerprints[at],
    }
    begin = end + 1
  }
}

export function readBlobs({ readIds, readPlaces }: Findings): readonly WindowBlob[] {
  return idsIn(readIds).map((id, at) => {
    return { id, offset: readPlaces[2 * at] ?? 0, length: readPlaces[2 * at + 1] ?? 0 }
  })
}
