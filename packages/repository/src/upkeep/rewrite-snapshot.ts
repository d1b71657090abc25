/**
 * Owns writing a snapshot anew with some of its fields changed: all others stay as they are, also those of its summary,
 * and also those that this program does not know, such as a later restic's or rustic's.
 *
 * Invariant: the new one is durable, and was found there, before anybody may delete the old one.
 */

import { Failure } from '@stillpoint/core/kernel'
import { confirmDocument } from '../confirm-stored.ts'
import { type SnapshotId, snapshotId, type TreeId } from '../format/ids.ts'
import { jsonObject, jsonText, parseJson } from '../format/json.ts'
import { decodeSnapshot, snapshotFields } from '../format/snapshot.ts'
import { summaryFields, unknownSummary } from '../format/snapshot-summary.ts'
import { formatTimestamp, type Timestamp } from '../format/timestamp.ts'
import { readDocument, type Vault, writeDocument } from '../vault.ts'

export interface SnapshotChange {
  readonly tree?: TreeId
  readonly tags?: readonly string[]
  readonly hostname?: string
  readonly time?: Timestamp
  /** What is in the tree now. In the summary the rest stays, or is 0 where there was none. */
  readonly totals?: TreeTotals
  /** Drop the reference to the parent, which another repository does not have. */
  readonly withoutParent?: boolean
  /**
   * Which snapshot the new one names as its original: `first` of a row, where it is still the same snapshot (tags,
   * copies), or the one that is written anew, where it is another (its tree, host or time). As restic.
   */
  readonly original: 'first' | 'this'
  /** The repository into which it is written. Default: the one it is in. */
  readonly into?: Vault
}

export interface TreeTotals {
  readonly files: bigint
  /** The sum of the files' lengths. */
  readonly bytes: bigint
}

/** Returns the id of the new snapshot. */
export async function rewriteSnapshot(vault: Vault, id: SnapshotId, change: SnapshotChange): Promise<SnapshotId> {
  const json = await readDocument(vault, { kind: 'snapshot', name: id }, (text) => {
    decodeSnapshot(text)
    return text
  })
  const fields: Record<string, unknown> = { ...jsonObject(parseJson(json), 'the snapshot') }
  if (change.tree !== undefined) fields['tree'] = change.tree
  if (change.tags !== undefined) fields['tags'] = change.tags.length === 0 ? undefined : change.tags
  if (change.hostname !== undefined) fields['hostname'] = change.hostname
  if (change.time !== undefined) fields['time'] = formatTimestamp(change.time)
  if (change.totals !== undefined) fields['summary'] = withTotals(fields['summary'], change.totals)
  if (change.withoutParent === true) fields['parent'] = undefined
  if (change.original === 'this') fields['original'] = id
  else fields['original'] ??= id
  const into = change.into ?? vault
  const name = await writeDocument(into, 'snapshot', documentOf(id, fields))
  await confirmDocument(into, { kind: 'snapshot', name })
  return snapshotId(name)
}

function withTotals(summary: unknown, { files, bytes }: TreeTotals): Readonly<Record<string, unknown>> {
  const before =
    summary === undefined || summary === null ? summaryFields(unknownSummary) : jsonObject(summary, 'the summary')
  return { ...before, total_files_processed: files, total_bytes_processed: bytes }
}

/**
 * Known fields in restic's order, then the others.
 * @throws Failure `object_damaged` where unknown fields are nested so deep that they cannot be written again
 */
function documentOf(id: SnapshotId, fields: Readonly<Record<string, unknown>>): string {
  const unknown = Object.keys(fields).filter((name) => !snapshotFields.includes(name))
  const written = [...snapshotFields, ...unknown].filter((name) => fields[name] !== undefined)
  try {
    return jsonText(Object.fromEntries(written.map((name) => [name, fields[name]])))
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    const message = `snapshot ${id} has fields that are nested too deep to be written again`
    throw new Failure({ code: 'object_damaged', message, cause: error })
  }
}
