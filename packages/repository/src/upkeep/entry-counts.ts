/** Owns counting entries of a backup as restic counts them. */
import type { TreeNode } from '../format/tree.ts'
import type { EntryChange } from '../save/entry-change.ts'

export type ChangeCounts = Readonly<Record<EntryChange, number>>

export interface EntryCounts {
  readonly files: ChangeCounts
  readonly dirs: ChangeCounts
}

/** Of all files that were counted. */
export interface FileTotals {
  readonly files: number
  /** The sum of their lengths. */
  readonly bytes: number
}

export interface CountedEntry {
  readonly type: TreeNode['type']
  /** Of a file. */
  readonly bytes: number
  readonly change: EntryChange
}

export interface EntryCounter {
  readonly counts: EntryCounts
  readonly totals: FileTotals
  /** Links and devices have a change, too, but are in no count. */
  add(entry: CountedEntry): void
}

export function createEntryCounter(): EntryCounter {
  const files = { new: 0, changed: 0, unmodified: 0 }
  const dirs = { new: 0, changed: 0, unmodified: 0 }
  const totals = { files: 0, bytes: 0 }
  return {
    counts: { files, dirs },
    totals,
    add({ type, bytes, change }) {
      if (type === 'file') {
        files[change] += 1
        totals.files += 1
        totals.bytes += bytes
      }
      if (type === 'dir') dirs[change] += 1
    },
  }
}
