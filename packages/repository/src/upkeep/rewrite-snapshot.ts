/**
 * Owns writing a snapshot anew with some of its fields changed. Fields that this program does not know stay.
 *
 * Invariant: the new one is durable, and was found there, before anybody may delete the old one.
 */

import { Failure } from '@stillpoint/core/kernel'
import { confirmDocument } from '../confirm-stored.ts'
import { type SnapshotId, snapshotId, type TreeId } from '../format/ids.ts'
import { jsonObject, parseJson } from '../format/json.ts'
import { decodeSnapshot } from '../format/snapshot.ts'
import { formatTimestamp, type Timestamp } from '../format/timestamp.ts'
import { readDocument, type Vault, writeDocument } from '../vault.ts'

export interface SnapshotChange {
  readonly tree?: TreeId
  readonly tags?: readonly string[]
  readonly hostname?: string
  readonly time?: Timestamp
  /** Drop the reference to the parent, which another repository does not have. */
  readonly withoutParent?: boolean
  /** The repository into which it is written. Default: the one it is in. */
  readonly into?: Vault
}

/** Returns the id of the new snapshot, which names the first of a row of rewritings as its original. */
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
  if (change.withoutParent === true) fields['parent'] = undefined
  fields['original'] ??= id
  const into = change.into ?? vault
  const name = await writeDocument(into, 'snapshot', documentOf(id, fields))
  await confirmDocument(into, { kind: 'snapshot', name })
  return snapshotId(name)
}

/** @throws Failure `object_damaged` where unknown fields are nested so deep that they cannot be written again */
function documentOf(id: SnapshotId, fields: Readonly<Record<string, unknown>>): string {
  try {
    return JSON.stringify(fields, exactNumbers)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    const message = `snapshot ${id} has fields that are nested too deep to be written again`
    throw new Failure({ code: 'object_damaged', message, cause: error })
  }
}

/** Whole numbers beyond those that JavaScript has are read as `bigint`; restic writes none in snapshots that large. */
function exactNumbers(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? Number(value) : value
}
