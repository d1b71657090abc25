/** Owns which snapshots belong together: by host, paths and tags, as restic groups them. */
import { Failure } from '@stillpoint/core/kernel'
import type { Snapshot } from '../load/snapshots.ts'

export const groupFields = ['host', 'paths', 'tags'] as const
export type GroupField = (typeof groupFields)[number]

export interface SnapshotGroup {
  /** Null where snapshots are not grouped by it. */
  readonly hostname: string | null
  readonly paths: readonly string[] | null
  readonly tags: readonly string[] | null
  readonly snapshots: readonly Snapshot[]
}

/** Reads `host,paths`; empty: no grouping. @throws Failure `options_invalid` */
export function parseGroupBy(text: string): readonly GroupField[] {
  const words = text.split(',').filter((word) => word !== '')
  return words.map((word) => {
    // restic takes singular and plural.
    const field = groupFields.find((known) => word === known || `${word}s` === known || word === `${known}s`)
    if (field !== undefined) return field
    throw new Failure({
      code: 'options_invalid',
      message: `${JSON.stringify(word.slice(0, 40))} is nothing that snapshots can be grouped by`,
      hint: 'Give host, paths and tags, separated by commas; or "" for one group of all.',
    })
  })
}

/** Groups in the order of their first snapshots. */
export function groupSnapshots(snapshots: readonly Snapshot[], by: readonly GroupField[]): readonly SnapshotGroup[] {
  const groups = new Map<string, SnapshotGroup & { readonly snapshots: Snapshot[] }>()
  for (const snapshot of snapshots) {
    const key = {
      hostname: by.includes('host') ? snapshot.hostname : null,
      paths: by.includes('paths') ? [...snapshot.paths].sort() : null,
      tags: by.includes('tags') ? [...snapshot.tags].sort() : null,
    }
    const text = JSON.stringify(key)
    const group = groups.get(text)
    if (group === undefined) groups.set(text, { ...key, snapshots: [snapshot] })
    else group.snapshots.push(snapshot)
  }
  return [...groups.values()]
}
