import { expect, test } from 'vitest'
import { openMemoryStore } from '../blob/memory-store.ts'
import { createBlobIndex } from '../blob-index.ts'
import { packId, sha256 } from '../format/ids.ts'
import { entropy } from '../testing/world.ts'
import { packListing, placesOf } from './pack-listing.ts'

const packNamed = (text: string) => packId(sha256(Buffer.from(text)))

async function place() {
  const store = openMemoryStore()
  const blobs = createBlobIndex(entropy)
  const index = (text: string) => {
    const entry = {
      id: sha256(Buffer.from(`blob in ${text}`)),
      type: 'data',
      offset: 0,
      length: 40,
      plainBytes: 90,
    } as const
    blobs.add({ id: packNamed(text), entries: [entry] })
  }
  const put = async (text: string) => void (await store.put({ kind: 'pack', name: packNamed(text) }, Buffer.from(text)))
  for (const text of ['one', 'three', 'gone', 'seven', 'eleven']) index(text)
  for (const text of ['one', 'three', 'stray', 'seven', 'eleven']) await put(text)
  return { store, blobs, index, put }
}

test('of packs of the index it knows the lengths, of others the names', async () => {
  const { store, blobs } = await place()
  let batches = 0
  const listing = await packListing({ store, index: { blobs } }, () => {
    batches += 1
  })
  expect(listing.count).toBe(5)
  expect(listing.unknown).toEqual([{ id: packNamed('stray'), bytes: 5 }])
  const bytesOf = (text: string) => listing.bytesOf(blobs.packNumber(packNamed(text)))
  expect(['one', 'three', 'gone', 'seven', 'eleven'].map(bytesOf)).toEqual([3, 5, undefined, 5, 6])
  expect(batches).toBeGreaterThan(1)
  const all = ['one', 'three', 'seven', 'eleven', 'stray'].map((text) => ({
    name: packNamed(text),
    bytes: text.length,
  }))
  for (const pack of all) expect(listing.packAt(listing.placeOf(pack.name))).toEqual(pack)
  for (const text of ['gone', 'nowhere']) expect(listing.placeOf(packNamed(text))).toBe(-1)
  expect([...placesOf(listing)].map((at) => listing.packAt(at))).toEqual(all)
  expect(listing.packAt(listing.placeEnd)).toBeUndefined()
})

test('what a save beside it stores while it lists is neither missing nor unknown', async () => {
  const { store, blobs, index, put } = await place()
  let isFirst = true
  const during: typeof store = {
    ...store,
    async *list(kind) {
      for await (const batch of store.list(kind)) {
        yield batch
        if (!isFirst) continue
        isFirst = false
        for (const text of ['listed', 'not listed']) index(text)
        await put('listed')
        yield [{ name: packNamed('listed'), bytes: 6 }]
      }
    },
  }
  const listing = await packListing({ store: during, index: { blobs } }, () => {})
  expect(listing.unknown).toEqual([{ id: packNamed('stray'), bytes: 5 }])
  const added = ['listed', 'not listed'].map((text) => blobs.packNumber(packNamed(text)))
  expect(added.map((pack) => pack >= listing.packNumberEnd)).toEqual([true, true])
  expect(blobs.packNumber(packNamed('gone'))).toBeLessThan(listing.packNumberEnd)
})

test('an abort ends it', async () => {
  const { store, blobs } = await place()
  const cause = new Error('stop')
  const abort = () => {
    throw cause
  }
  await expect(packListing({ store, index: { blobs } }, abort)).rejects.toBe(cause)
})
