/**
 * Owns the document of an index file: which blobs lie where in which packs. restic's design document, "Indexing".
 * Does not own the index in memory.
 */
import { assert } from '@stillpoint/core/kernel'
import { sealOverheadBytes } from './crypto.ts'
import { sound } from './damage.ts'
import { blobId, idBytes, type PackId, packId } from './ids.ts'
import { type IndexColumns, scanIndex } from './index-scan.ts'
import { countField, jsonArray, jsonObject, parseJson, stringField } from './json.ts'
import type { PackEntry } from './pack.ts'

export interface IndexedPack {
  readonly id: PackId
  readonly entries: readonly PackEntry[]
}

/** An index file is written when it has this many blobs, which keeps it below restic's 8 MiB. */
export const indexBlobsMax = 40_000

export function encodeIndex(packs: readonly IndexedPack[]): string {
  const encoded = packs.map((pack) => {
    const blobs = pack.entries.map((entry) => {
      const plain = entry.plainBytes === undefined ? '' : `,"uncompressed_length":${entry.plainBytes}`
      return `{"id":"${entry.id}","type":"${entry.type}","offset":${entry.offset},"length":${entry.length}${plain}}`
    })
    return `{"id":"${pack.id}","blobs":[${blobs.join(',')}]}`
  })
  return `{"packs":[${encoded.join(',')}]}`
}

/** The columns of a document, each value validated. @throws DamageError */
export function readIndexColumns(bytes: Buffer): IndexColumns {
  return scanIndex(bytes) ?? columnsOf(decodeAnyJson(bytes.toString('utf8')))
}

/** As they would be read from the document of these packs. */
export function columnsOf(packs: readonly IndexedPack[]): IndexColumns {
  const columns = scanIndex(Buffer.from(encodeIndex(packs), 'latin1'))
  assert(columns !== undefined, 'what we write we can read')
  return columns
}

/** @throws DamageError */
export function decodeIndex(json: string): IndexedPack[] {
  return decodeIndexBytes(Buffer.from(json, 'utf8'))
}

/** @throws DamageError */
export function decodeIndexBytes(bytes: Buffer): IndexedPack[] {
  const columns = scanIndex(bytes)
  return columns === undefined ? decodeAnyJson(bytes.toString('utf8')) : packsOf(columns)
}

function packsOf(columns: IndexColumns): IndexedPack[] {
  const { bytes, idAt, isTree, offset, length, plain } = columns
  const idOf = (at = 0) => bytes.toString('latin1', at, at + idBytes * 2)
  const packs: IndexedPack[] = []
  for (let pack = 0, blob = 0; pack < columns.packs; pack += 1) {
    const entries: PackEntry[] = []
    for (const end = columns.packEnd[pack] ?? 0; blob < end; blob += 1) {
      entries.push({
        id: idOf(idAt[blob]),
        type: isTree[blob] === 1 ? 'tree' : 'data',
        offset: offset[blob] ?? 0,
        length: length[blob] ?? 0,
        plainBytes: plain[blob] === 0 ? undefined : plain[blob],
      })
    }
    packs.push({ id: packId(idOf(columns.packIdAt[pack])), entries })
  }
  return packs
}

/** Whatever the order of fields and the white space. @throws DamageError */
function decodeAnyJson(json: string): IndexedPack[] {
  const document = parseJson(json)
  sound(!Array.isArray(document), 'an index in the old format without packs')
  const { packs } = jsonObject(document, 'the index')
  // A document of another kind, such as a snapshot, must not pass for an empty index.
  sound(packs !== undefined, 'it is no index: it has no packs')
  return jsonArray(packs ?? [], 'packs').map((pack) => {
    const object = jsonObject(pack, 'a pack of the index')
    const blobs = jsonArray(object['blobs'] ?? [], 'blobs')
    return { id: packId(object['id']), entries: blobs.map(decodeEntry) }
  })
}

const uint32Max = 0xffff_ffff

function decodeEntry(value: unknown): PackEntry {
  const object = jsonObject(value, 'a blob of the index')
  const type = stringField(object, 'type')
  sound(type === 'data' || type === 'tree', `blob type ${JSON.stringify(type.slice(0, 20))} is unknown`)
  const length = countField(object, 'length', uint32Max)
  sound(length >= sealOverheadBytes, 'a blob is shorter than its own overhead')
  // A length of 0 stands for "not compressed", as the field is left out when it is 0.
  const plain = object['uncompressed_length'] === undefined ? 0 : countField(object, 'uncompressed_length', uint32Max)
  return {
    id: blobId(object['id']),
    type,
    offset: countField(object, 'offset', uint32Max),
    length,
    plainBytes: plain === 0 ? undefined : plain,
  }
}
