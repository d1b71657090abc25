/**
 * Owns reading packs for a check: several at a time, in ranges, which the pool of threads verifies.
 * Does not own which packs, nor what becomes of what is found wrong.
 *
 * Invariants: 1. every byte of a pack is covered: by the authentication code of its blob or of its header, or by having to
 * fit (the length of the header, at the end); every plaintext by the hash that is its id. 2. That a pack has the right
 * name follows for those of the index from having exactly the blobs at the places that the index has under that name;
 * others are hashed as a whole, too. So what takes longest, SHA-256, is done once for each byte. 3. Memory is bounded by the slabs, whatever the number and size of packs: a range is read when there is one for
 * it. Only a single blob that is larger than a slab gets memory of its own.
 */
import { createHash, type Hash } from 'node:crypto'
import type { ObjectName, StoredObject } from '../blob/blob-store.ts'
import { copyBytes } from '../format/copy-bytes.ts'
import { unseal } from '../format/crypto.ts'
import { DamageError, sound } from '../format/damage.ts'
import { giveBack } from '../format/give-back.ts'
import { packId } from '../format/ids.ts'
import {
  decodeHeaderLength,
  decodePackHeader,
  headerEntryBytes,
  headerLengthBytes,
  type PackEntry,
} from '../format/pack.ts'
import { eachOf } from '../parallel.ts'
import { namingDamage, type Vault } from '../vault.ts'
import { createSlabs, type Slabs } from '../work/slabs.ts'

/** One that is larger is no pack: no program writes it. */
const packBytesMax = 1 << 30
const rangeBytes = 4 << 20
/** The largest chunk that restic cuts, sealed: then a range has one blob. */
const slabBytes = (8 << 20) + (64 << 10)
/** Headers are mostly smaller: with the first read of a pack its header is there. */
const tailBytes = 32 << 10

export interface DataReading {
  readonly packs: Iterable<StoredObject>
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
  const threads = Math.max(1, vault.work.threads)
  const slabs = createSlabs({ slabBytes, slabsMax: threads + 2 })
  await eachOf(reading.packs, threads + 1, async (pack) => {
    reading.abort()
    if (!reading.goesOn()) return
    const isSound = await reading.noting(() => readPack({ vault, slabs, reading, pack }))
    read.packs += 1
    read.bytes += pack.bytes
    reading.onRead(pack, isSound)
  })
  return read
}

interface PackReading {
  readonly vault: Vault
  readonly slabs: Slabs
  readonly reading: DataReading
  readonly pack: StoredObject
}

/** @throws Failure `object_damaged`, `object_missing` and those of the store */
async function readPack(work: PackReading): Promise<void> {
  const { vault, pack } = work
  const id = packId(pack.name)
  const object: ObjectName = { kind: 'pack', name: id }
  await namingDamage(vault.store, object, async () => {
    sound(pack.bytes <= packBytesMax, `it has ${pack.bytes} bytes, more than any pack`)
    const { sealed, plain, entries } = await readHeader(vault, object, pack.bytes)
    const { blobs } = vault.index
    const hash = blobs.hasPack(id) ? undefined : createHash('sha256')
    await verifyRanges(work, { object, ranges: rangesOf(entries, plain), ...(hash === undefined ? {} : { hash }) })
    if (hash === undefined) sound(blobs.agrees({ id, entries }), 'it and the index do not agree on what is in it')
    else sound(hash.update(sealed).digest('hex') === id, 'its content does not match its name')
  })
}

interface Header {
  /** With the length behind it. */
  readonly sealed: Buffer
  readonly plain: Buffer
  readonly entries: readonly PackEntry[]
}

async function readHeader({ store, keys }: Vault, object: ObjectName, packBytes: number): Promise<Header> {
  const readEnd = (bytes: number) => store.get(object, { offset: packBytes - bytes, length: bytes })
  let tail = await readEnd(Math.min(packBytes, tailBytes))
  const length = decodeHeaderLength(tail.subarray(Math.max(0, tail.length - headerLengthBytes)), packBytes)
  if (tail.length < length + headerLengthBytes) tail = await readEnd(length + headerLengthBytes)
  const sealed = tail.subarray(tail.length - length - headerLengthBytes)
  const plain = unseal(keys, sealed.subarray(0, length))
  const entries = decodePackHeader(plain)
  const last = entries.at(-1)
  const end = last === undefined ? 0 : last.offset + last.length
  sound(end === packBytes - sealed.length, 'its blobs and its header do not fill it')
  return { sealed, plain, entries }
}

interface Ranges {
  readonly object: ObjectName
  readonly ranges: readonly PackRange[]
  /** Is given all bytes before the header, in order. */
  readonly hash?: Hash
}

async function verifyRanges({ vault, slabs, reading }: PackReading, { object, ranges, hash }: Ranges): Promise<void> {
  const { signal } = reading
  const verifying: Promise<unknown>[] = []
  let damage: string | null = null
  let failed: { readonly error: unknown } | undefined
  for (const range of ranges) {
    // What is damaged need not be read to its end.
    if (damage !== null || failed !== undefined) break
    reading.abort()
    const slab = range.length <= slabBytes ? await slabs.take(signal) : undefined
    try {
      const read = await vault.store.get(object, { offset: range.offset, length: range.length })
      hash?.update(read)
      const sealed = slab?.bytes.subarray(0, range.length) ?? read
      if (slab !== undefined) {
        copyBytes(read, slab.bytes, 0)
        giveBack(read)
      }
      const task = { bytes: range.length, ...(signal === undefined ? {} : { signal }) }
      const verified = vault.work.run('verifyBlobs', { sealed, header: range.header }, task).then(
        (problem) => {
          damage ??= problem
          slab?.release()
        },
        (error: unknown) => {
          failed ??= { error }
          slab?.release()
        },
      )
      if (slab === undefined) await verified // its memory is beyond the bound: one at a time
      verifying.push(verified)
    } catch (error) {
      slab?.release()
      failed ??= { error }
    }
  }
  await Promise.all(verifying)
  if (failed !== undefined) throw failed.error
  if (damage !== null) throw new DamageError(damage)
}

interface PackRange {
  readonly offset: number
  readonly length: number
  /** What the header tells of its blobs, in memory of its own. */
  readonly header: Uint8Array
}

/** All of the pack up to its header, of which `plain` is what was sealed. */
function rangesOf(entries: readonly PackEntry[], plain: Uint8Array): readonly PackRange[] {
  const ranges: PackRange[] = []
  let [offset, length, begin, end] = [0, 0, 0, 0]
  function close(): void {
    if (end > begin) ranges.push({ offset, length, header: new Uint8Array(plain.subarray(begin, end)) })
    offset += length
    length = 0
    begin = end
  }
  for (const entry of entries) {
    if (length + entry.length > rangeBytes) close()
    length += entry.length
    end += headerEntryBytes(entry.plainBytes !== undefined)
  }
  close()
  return ranges
}
