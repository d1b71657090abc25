/**
 * Owns reading packs for a check: several at a time, verified by the pool of threads.
 * Does not own which packs, nor what becomes of what is found wrong.
 *
 * Invariant: memory is bounded by the slabs, whatever the number of packs: a pack is read when there is one for it.
 */
import type { ObjectName, StoredObject } from '../blob/blob-store.ts'
import { DamageError } from '../format/damage.ts'
import { packId } from '../format/ids.ts'
import type { PackEntry } from '../format/pack.ts'
import { eachOf } from '../parallel.ts'
import { damaged, type Vault } from '../vault.ts'
import { createSlabs, type Slabs } from '../work/slabs.ts'

/** Larger ones are no packs: no program writes them, and they would not fit. */
const packBytesMax = 512 << 20
const slabsBytesMax = 128 << 20

export interface DataReading {
  readonly packs: readonly StoredObject[]
  readonly abort: () => void
  readonly signal?: AbortSignal
  /** Whether to begin another pack. */
  readonly goesOn: () => boolean
  /** Runs the check of one pack; what it finds wrong with the pack is noted there. Answers whether it was sound. */
  readonly noting: (check: () => Promise<void>) => Promise<boolean>
  /** After each pack; `isSound` where all of it was read and nothing was wrong. */
  readonly onRead: (pack: StoredObject, isSound: boolean) => void
}

export interface DataRead {
  readonly packs: number
  readonly bytes: number
}

export async function readPacks(vault: Vault, reading: DataReading): Promise<DataRead> {
  const read = { packs: 0, bytes: 0 }
  const slabBytes = Math.max(1, ...reading.packs.map(({ bytes }) => Math.min(bytes, packBytesMax)))
  // One that is read while each thread has one.
  const inFlight = Math.max(1, Math.min(vault.work.threads + 1, Math.floor(slabsBytesMax / slabBytes)))
  const slabs = createSlabs({ slabBytes, slabsMax: inFlight })
  await eachOf(reading.packs, inFlight, async (pack) => {
    reading.abort()
    if (!reading.goesOn()) return
    const isSound = await reading.noting(() => readPack({ vault, slabs, reading }, pack))
    read.packs += 1
    read.bytes += pack.bytes
    reading.onRead(pack, isSound)
  })
  return read
}

interface Reader {
  readonly vault: Vault
  readonly slabs: Slabs
  readonly reading: DataReading
}

/** @throws Failure `object_damaged`, `object_missing` and those of the store */
async function readPack({ vault, slabs, reading }: Reader, pack: StoredObject): Promise<void> {
  const { store, index, work } = vault
  const name = packId(pack.name)
  const object: ObjectName = { kind: 'pack', name }
  const wrong = (reason: string) => damaged(store, object, new DamageError(reason))
  if (pack.bytes > packBytesMax) throw wrong(`it has ${pack.bytes} bytes, more than any pack`)
  const slab = await slabs.take(reading.signal)
  let entries: readonly PackEntry[]
  try {
    const read = await store.get(object)
    if (read.length > slab.bytes.length) throw wrong(`it has ${read.length} bytes, and was listed with ${pack.bytes}`)
    slab.bytes.set(read)
    const bytes = slab.bytes.subarray(0, read.length)
    const verified = await work.run(
      'verifyPack',
      { name, bytes },
      { bytes: bytes.length, ...(reading.signal === undefined ? {} : { signal: reading.signal }) },
    )
    if (verified.kind === 'damaged') throw wrong(verified.reason)
    entries = verified.entries
  } finally {
    slab.release()
  }
  if (!index.blobs.hasPack(name) || index.blobs.agrees({ id: name, entries })) return
  throw wrong('it and the index do not agree on what is in it')
}
