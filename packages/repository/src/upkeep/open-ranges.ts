/**
 * Owns taking blobs out of a repository for another one: ranges of packs are read, and threads open what is in them into
 * shared memory, from where other threads seal it anew.
 *
 * Invariants: 1. nothing is handed on that was not verified against its id. 2. Damage falls back to another place of the
 * blob. 3. Memory is bounded by the slabs: who finds none waits.
 */
import { copyBytes } from '../format/copy-bytes.ts'
import { sealOverheadBytes } from '../format/crypto.ts'
import { giveBack } from '../format/give-back.ts'
import type { PackId } from '../format/ids.ts'
import { blobPlainBytes, type PackEntry } from '../format/pack.ts'
import { readBlob } from '../load/blob-reader.ts'
import type { BlobSink, WindowBlob } from '../save/blob-sink.ts'
import type { Vault } from '../vault.ts'
import { createSlabs } from '../work/slabs.ts'
import { type RangeBounds, readPackRange } from './pack-stream.ts'

export interface PackBlobs {
  readonly pack: PackId
  readonly entries: readonly PackEntry[]
}

export interface RangeOpener {
  readonly rangesInFlightMax: number
  /** Gives the blobs of a range to the sink, in which they are sealed when it resolves. Returns the bytes of the plaintexts. */
  open(range: PackBlobs, sink: BlobSink): Promise<number>
}

/** Of ranges that are opened together; a blob that is beyond them is opened alone. */
export const rangeBounds: RangeBounds = { rangeBytes: 8 << 20, plainBytes: 8 << 20 }

export function createRangeOpener(vault: Vault): RangeOpener {
  const rangesInFlightMax = Math.max(2, vault.work.threads)
  const sealedSlabs = createSlabs({ slabBytes: rangeBounds.rangeBytes, slabsMax: rangesInFlightMax })
  const openedSlabs = createSlabs({ slabBytes: rangeBounds.plainBytes, slabsMax: rangesInFlightMax })

  /** In this thread, from wherever it lies. */
  async function openAlone({ id, type }: PackEntry, sink: BlobSink): Promise<void> {
    await sink.put({ id, type, plaintext: await readBlob(vault, id, type) })
  }

  async function openTogether({ pack, entries }: PackBlobs, sink: BlobSink): Promise<void> {
    const { offset, length } = spanOf(entries)
    const read = await readPackRange(vault, pack, { offset, length })
    if (read === undefined) {
      for (const entry of entries) await openAlone(entry, sink)
      return
    }
    const [sealed, opened] = [await sealedSlabs.take(), await openedSlabs.take()]
    try {
      copyBytes(read, sealed.bytes, 0)
      giveBack(read)
      const blobs = entries.map((entry) => ({ ...entry, offset: entry.offset - offset }))
      const input = { sealed: sealed.bytes.subarray(0, length), blobs, target: opened.bytes }
      const places = await vault.work.run('openBlobs', input, { bytes: length })
      const data: WindowBlob[] = []
      for (const [at, entry] of entries.entries()) {
        const place = places[at]
        if (place?.kind !== 'opened') await openAlone(entry, sink)
        else if (entry.type === 'data') data.push({ id: entry.id, offset: place.offset, length: place.length })
        else {
          const plaintext = Buffer.from(opened.bytes.subarray(place.offset, place.offset + place.length))
          await sink.put({ id: entry.id, type: entry.type, plaintext })
        }
      }
      await sink.putAll(opened.bytes, data)
    } finally {
      sealed.release()
      opened.release()
    }
  }

  return {
    rangesInFlightMax,
    async open(range, sink) {
      const { entries } = range
      const bytes = entries.reduce((sum, entry) => sum + blobPlainBytes(entry), 0)
      const isSound = entries.every(({ length }) => length >= sealOverheadBytes)
      const isWithin = bytes <= rangeBounds.plainBytes && spanOf(entries).length <= rangeBounds.rangeBytes
      if (isSound && isWithin) await openTogether(range, sink)
      else for (const entry of entries) await openAlone(entry, sink)
      return bytes
    },
  }
}

/** Entries in the order of their offsets. */
function spanOf(entries: readonly PackEntry[]): { readonly offset: number; readonly length: number } {
  const [first] = entries
  const last = entries.at(-1)
  if (first === undefined || last === undefined) return { offset: 0, length: 0 }
  return { offset: first.offset, length: last.offset + last.length - first.offset }
}
