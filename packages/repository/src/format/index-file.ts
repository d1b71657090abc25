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
  const blobs = packs.reduce((sum, { entries }) => sum + entries.length, 0)
  const idDigits = idBytes * 2
  const columns = {
    bytes: Buffer.alloc((packs.length + blobs) * idDigits),
    packs: packs.length,
    packIdAt: new Uint32Array(packs.length),
    packEnd: new Uint32Array(packs.length),
    blobs,
    idAt: new Uint32Array(blobs),
    isTree: new Uint8Array(blobs),
    offset: new Uint32Array(blobs),
    length: new Uint32Array(blobs),
    plain: new Uint32Array(blobs),
  }
  let at = 0
  const place = (id: string) => {
    assert(columns.bytes.write(id, at, 'latin1') === idDigits, 'an id has 64 digits')
    at += idDigits
    return at - idDigits
  }
  let blob = 0
  packs.forEach(({ id, entries }, pack) => {
    columns.packIdAt[pack] = place(id)
    for (const entry of entries) {
      columns.idAt[blob] = place(entry.id)
      columns.isTree[blob] = entry.type === 'tree' ? 1 : 0
      columns.offset[blob] = within32Bits(entry.offset)
      columns.length[blob] = within32Bits(entry.length)
      columns.plain[blob] = within32Bits(entry.plainBytes ?? 0)
      blob += 1
    }
    columns.packEnd[pack] = blob
  })
  return columns
}

function within32Bits(count: number): number {
  assert(Number.isInteger(count) && count >= 0 && count <= 0xffff_ffff, 'a place in a pack has 32 bits')
  return count
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
