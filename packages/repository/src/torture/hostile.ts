/**
 * Owns putting into a repository what no sound program would: whoever has the keys can. Blobs of any bytes, whatever they
 * claim about their length; snapshots of any fields.
 */
import { zstdCompressSync } from 'node:zlib'
import type { TreeId } from '@stillpoint/core/kernel'
import { encodeDocument } from '../format/compression.ts'
import { seal } from '../format/crypto.ts'
import { type BlobType, packId, type SnapshotId, sha256, snapshotId, treeId } from '../format/ids.ts'
import { encodeIndex } from '../format/index-file.ts'
import { encodePackHeader, type PackEntry } from '../format/pack.ts'
import type { Vault } from '../vault.ts'

export interface HostileBlob {
  readonly type: BlobType
  readonly plaintext: Uint8Array
  /** What it claims to unfold to. Default: what it does. */
  readonly claimedBytes?: number
  /** The id under which it is found. Default: its hash. */
  readonly id?: string
}

/** Shorter ones are stored as they are: there may be very many. */
const plainMax = 1000

/** Stores them in one pack and index file, and makes them known to the vault. */
export async function plant(vault: Vault, blobs: readonly HostileBlob[]): Promise<void> {
  const entries: PackEntry[] = []
  const pieces: Buffer[] = []
  let offset = 0
  for (const { type, plaintext, claimedBytes, id = sha256(plaintext) } of blobs) {
    const isPlain = claimedBytes === undefined && plaintext.length < plainMax
    const sealed = seal(vault.keys, isPlain ? plaintext : zstdCompressSync(plaintext), vault.entropy)
    const plainBytes = isPlain ? undefined : (claimedBytes ?? plaintext.length)
    entries.push({ id, type, offset, length: sealed.length, plainBytes })
    pieces.push(sealed)
    offset += sealed.length
  }
  const header = seal(vault.keys, encodePackHeader(entries), vault.entropy)
  const tail = Buffer.alloc(4)
  tail.writeUInt32LE(header.length)
  const bytes = Buffer.concat([...pieces, header, tail])
  const id = packId(sha256(bytes))
  await vault.store.put({ kind: 'pack', name: id }, bytes)
  await document(vault, 'index', encodeIndex([{ id, entries }]))
  await vault.index.refresh()
}

async function document(vault: Vault, kind: 'index' | 'snapshot', json: string): Promise<string> {
  const bytes = seal(vault.keys, await encodeDocument(json), vault.entropy)
  const name = sha256(bytes)
  await vault.store.put({ kind, name }, bytes)
  return name
}

export async function plantSnapshot(vault: Vault, fields: Readonly<Record<string, string>>): Promise<SnapshotId> {
  const all = { time: '"2026-11-21T00:00:00Z"', paths: '["/x"]', hostname: '"h"', username: '"u"', ...fields }
  const json = `{${Object.entries(all)
    .map(([name, value]) => `"${name}":${value}`)
    .join(',')}}`
  return snapshotId(await document(vault, 'snapshot', json))
}

/** Of nodes as JSON, in whatever order and form. */
export function treeOf(nodes: readonly string[]): { readonly id: TreeId; readonly blob: HostileBlob } {
  const plaintext = Buffer.from(`{"nodes":[${nodes.join(',')}]}\n`)
  return { id: treeId(sha256(plaintext)), blob: { type: 'tree', plaintext } }
}

export const fileNode = (name: string, fields = '"size":0,"content":[]') =>
  `{"name":${JSON.stringify(name)},"type":"file","mode":420,${fields}}`
export const dirNode = (name: string, subtree: string) =>
  `{"name":${JSON.stringify(name)},"type":"dir","mode":2147484141,"subtree":"${subtree}"}`
