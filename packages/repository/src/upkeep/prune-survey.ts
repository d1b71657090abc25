/**
 * Owns looking at a repository for a prune: which blobs are used, and what each pack holds of them. What is found is kept in
 * arrays by the numbers that the index has given to packs and to places of blobs.
 * Decides nothing (prune-plan.ts), changes nothing (prune.ts).
 *
 * Invariants: 1. a blob that a snapshot reaches counts as used, wherever it lies. 2. Of a used blob that lies in
 * several places exactly one counts, and that one is in a pack that is there and as long as it should be. 3. A used blob
 * without such a place is a refusal: what is missing may only be lost to the index. 4. Every index file was found in the
 * repository with the content that its name says, which is what the index was made of.
 */
import { Failure } from '@stillpoint/core/kernel'
import type { BlobIndex } from '../blob-index.ts'
import type { PackId, SnapshotId } from '../format/ids.ts'
import type { PackEntry } from '../format/pack.ts'
import { createBitSet } from '../index-memory/bit-set.ts'
import { listSnapshots } from '../load/snapshots.ts'
import type { Vault } from '../vault.ts'
import { createBlobSet } from './blob-set.ts'
import { readIndexFile, verifyIndexFile } from './index-files.ts'
import { type NamedPacks, namedPacks } from './named-packs.ts'
import { type PackListing, packListing } from './pack-listing.ts'
import type { ReachedBlobs } from './reached-blobs.ts'
import { reachableBlobs } from './walk-trees.ts'

/** What packs hold, each array by the number of a pack. */
export interface PackUse {
  readonly usedBlobs: Uint32Array
  readonly usedBytes: Float64Array
  readonly unusedBlobs: Uint32Array
  readonly unusedBytes: Float64Array
  isWhole(pack: number): boolean
  hasTrees(pack: number): boolean
  hasData(pack: number): boolean
  hasUncompressed(pack: number): boolean
}

export interface PruneSurvey {
  readonly index: BlobIndex
  readonly named: NamedPacks
  readonly use: PackUse
  /** In the store, in no index: left over by what was interrupted. */
  readonly orphans: PackListing['unknown']
  /** Whether the blob at this place is the one that counts. */
  readonly isKept: (pack: number, entry: PackEntry) => boolean
}

export interface SurveyOptions {
  readonly abort: () => void
  /** As if these were gone already. */
  readonly ignoreSnapshots: ReadonlySet<SnapshotId>
  readonly onProgress: (progress: { readonly stage: 'trees' | 'indexes'; readonly done: number }) => void
}

/** @throws Failure `prune_refused`, `object_damaged`, `object_missing` */
export async function surveyForPrune(vault: Vault, options: SurveyOptions): Promise<PruneSurvey> {
  const snapshots = (await listSnapshots(vault)).filter(({ id }) => !options.ignoreSnapshots.has(id))
  // After the list: what a snapshot needs was indexed before it was written.
  await vault.index.refresh()
  const index = vault.index.blobs
  const contradictory = index.contradictoryPack()
  if (contradictory !== undefined) throw contradiction(contradictory)
  const roots = snapshots.map(({ id, tree }) => ({ tree, path: `snapshot ${id.slice(0, 8)}:/` }))
  const reached = await reachableBlobs(vault, roots, {
    abort: options.abort,
    onProgress: (done) => options.onProgress({ stage: 'trees', done }),
  })
  const listing = await packListing(vault, options.abort)
  const named = namedPacks(vault.index)
  for (const [done, file] of named.files.entries()) {
    options.abort()
    await verifyIndexFile(vault, file)
    // Read well after all: its packs, which the index does not know, would pass for orphans.
    if (vault.index.passedOver.has(file)) throw changedSince()
    options.onProgress({ stage: 'indexes', done: done + 1 })
  }
  // Numbers are those of this index: with another one, somebody has changed index files in spite of our lock.
  if (vault.index.blobs !== index) throw changedSince()
  const use = usesOf({ index, listing, reached })
  await requireAllPlaced(vault, { index, named, reached, use })
  const surplus = chooseAmongRepeated({ index, reached, use })
  return { index, named, use, orphans: listing.unknown, isKept }

  function isKept(pack: number, { id, type, offset }: PackEntry): boolean {
    let isIt = false
    index.findRow(id, type, (row) => {
      if (!reached.hasRow(row) || surplus.has(row)) return false
      const place = index.rowPlace(row)
      isIt = place.pack === pack && place.offset === offset
      return isIt
    })
    return isIt
  }
}

function contradiction(pack: PackId): Failure {
  return new Failure({
    code: 'prune_refused',
    message: `nothing was pruned: two index files say different things about pack ${pack}`,
    hint: 'Run "repair index" first.',
  })
}

function changedSince(): Failure {
  return new Failure({
    code: 'prune_refused',
    message: 'nothing was pruned: index files are not as they were when the repository was opened',
    hint: 'Find out whether another program works on this repository, then open it anew and prune again.',
  })
}

interface Used {
  readonly index: BlobIndex
  readonly listing: PackListing
  readonly reached: ReachedBlobs
}

const [holdsTrees, holdsData, holdsUncompressed, isAllThere] = [1, 2, 4, 8]

function usesOf({ index, listing, reached }: Used): PackUse {
  const usedBlobs = new Uint32Array(index.packNumberEnd)
  const usedBytes = new Float64Array(index.packNumberEnd)
  const unusedBlobs = new Uint32Array(index.packNumberEnd)
  const unusedBytes = new Float64Array(index.packNumberEnd)
  const flags = new Uint8Array(index.packNumberEnd)
  index.eachPack(({ number, fileBytes }) => {
    const isWhole = listing.bytesOf(number) === fileBytes
    let [blobs, bytes, otherBlobs, otherBytes, flag] = [0, 0, 0, 0, isWhole ? isAllThere : 0]
    index.eachRowOf(number, ({ row, type, length, isCompressed }) => {
      flag |= (type === 'tree' ? holdsTrees : holdsData) | (isCompressed ? 0 : holdsUncompressed)
      if (isWhole && reached.hasRow(row)) {
        blobs += 1
        bytes += length
      } else {
        otherBlobs += 1
        otherBytes += length
      }
    })
    usedBlobs[number] = blobs
    usedBytes[number] = bytes
    unusedBlobs[number] = otherBlobs
    unusedBytes[number] = otherBytes
    flags[number] = flag
  })
  const has = (flag: number) => (pack: number) => ((flags[pack] ?? 0) & flag) !== 0
  return {
    usedBlobs,
    usedBytes,
    unusedBlobs,
    unusedBytes,
    isWhole: has(isAllThere),
    hasTrees: has(holdsTrees),
    hasData: has(holdsData),
    hasUncompressed: has(holdsUncompressed),
  }
}

interface Placing {
  readonly index: BlobIndex
  readonly named: NamedPacks
  readonly reached: ReachedBlobs
  readonly use: PackUse
}

const missingNamedMax = 3

async function requireAllPlaced(vault: Vault, { index, named, reached, use }: Placing): Promise<void> {
  const broken = named.order.filter((pack) => !use.isWhole(pack))
  /** Nothing else has this blob in a pack that is there; a blob in several broken packs counts for its first row. */
  const isLost = (row: number) => {
    if (!reached.hasRow(row)) return false
    if (!reached.isRepeated(row)) return true
    const rows = index.rowsLike(row)
    return rows[0] === row && rows.every((other) => !use.isWhole(index.rowPlace(other).pack))
  }
  let lost = 0
  for (const pack of broken) {
    index.eachRowOf(pack, ({ row }) => {
      if (isLost(row)) lost += 1
    })
  }
  const count = lost + reached.unknown.size
  if (count === 0) return
  const missing: string[] = []
  reached.unknown.each((id, type) => {
    if (missing.length < missingNamedMax) missing.push(`${type} blob ${id}`)
  })
  if (missing.length < missingNamedMax && lost > 0) missing.push(...(await nameLost()))
  const [first] = broken
  const packsText =
    first === undefined
      ? ''
      : `; ${broken.length} packs are missing or have a wrong length, among them ${index.packId(first)}`
  const names = missing.slice(0, missingNamedMax).join(', ')
  throw new Failure({
    code: 'prune_refused',
    message: `nothing was pruned: ${count} blobs that snapshots need cannot be found: ${names}${count > missingNamedMax ? ' …' : ''}${packsText}`,
    hint: 'Run "repair index"; if blobs are still missing, "repair snapshots --forget"; then prune again.',
  })

  /** The index has no ids: they are in the index files. */
  async function nameLost(): Promise<string[]> {
    const found = createBlobSet()
    for (const file of new Set([...broken].flatMap((pack) => named.filesOf(pack).slice(0, 1)))) {
      for (const { id, entries } of await readIndexFile(vault, file)) {
        if (use.isWhole(index.packNumber(id))) continue
        for (const entry of entries)
          index.findRow(entry.id, entry.type, (row) => isLost(row) && found.add(entry.id, entry.type))
        if (found.size >= missingNamedMax) break
      }
      if (found.size >= missingNamedMax) break
    }
    const names: string[] = []
    found.each((id, type) => names.push(`${type} blob ${id}`))
    return names
  }
}

interface Repeated {
  readonly index: BlobIndex
  readonly reached: ReachedBlobs
  readonly use: PackUse
}

/**
 * Of each used blob with several places all but the one that counts; they count as unused from then on. Packs that are
 * used as a whole come first: after an interrupted prune those are the new ones, and the old ones empty out.
 */
function chooseAmongRepeated({ index, reached, use }: Repeated): { has(row: number): boolean } {
  const surplus = createBitSet()
  const unusedBefore = use.unusedBytes.slice()
  const isBetter = (row: number, other: number) => {
    const [place, otherPlace] = [index.rowPlace(row), index.rowPlace(other)]
    const difference = (unusedBefore[place.pack] ?? 0) - (unusedBefore[otherPlace.pack] ?? 0)
    if (difference !== 0) return difference < 0
    if (place.pack === otherPlace.pack) return place.offset < otherPlace.offset
    return index.comparePacks(place.pack, otherPlace.pack) < 0
  }
  reached.eachRepeated((row) => {
    const rows = index.rowsLike(row).filter((other) => use.isWhole(index.rowPlace(other).pack))
    // Each blob once.
    if (rows[0] !== row) return
    const best = rows.reduce((one, other) => (isBetter(other, one) ? other : one))
    for (const other of rows) {
      if (other === best) continue
      surplus.add(other)
      const { pack, length } = index.rowPlace(other)
      use.usedBlobs[pack] = (use.usedBlobs[pack] ?? 0) - 1
      use.usedBytes[pack] = (use.usedBytes[pack] ?? 0) - length
      use.unusedBlobs[pack] = (use.unusedBlobs[pack] ?? 0) + 1
      use.unusedBytes[pack] = (use.unusedBytes[pack] ?? 0) + length
    }
  })
  return surplus
}
