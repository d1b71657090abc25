/** Owns the document of an index file: which blobs lie where in which packs. restic's design document, "Indexing". */
import { sealOverheadBytes } from './crypto.ts'
import { sound } from './damage.ts'
import { blobId, type PackId, packId } from './ids.ts'
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

/** @throws DamageError */
export function decodeIndex(json: string): IndexedPack[] {
  const document = parseJson(json)
  sound(!Array.isArray(document), 'an index in the old format without packs')
  const packs = jsonObject(document, 'the index')['packs'] ?? []
  return jsonArray(packs, 'packs').map((pack) => {
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
