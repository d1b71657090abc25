/**
 * Owns looking at a repository for a prune: which blobs are used, and what each pack holds of them.
 * Decides nothing (prune-plan.ts), changes nothing (prune.ts).
 *
 * Invariants: 1. a blob that a snapshot reaches counts as used, wherever it lies. 2. Of a used blob that lies in
 * several places exactly one counts, and that one is in a pack that is there and as long as it should be. 3. A used blob
 * without such a place is a refusal: what is missing may only be lost to the index.
 */
import { Failure } from '@stillpoint/core/kernel'
import type { PackId, SnapshotId } from '../format/ids.ts'
import type { IndexedPack } from '../format/index-file.ts'
import { type PackEntry, packBytes } from '../format/pack.ts'
import { listSnapshots } from '../load/snapshots.ts'
import type { Vault } from '../vault.ts'
import type { BlobSet } from './blob-set.ts'
import { listIndexFiles, readIndexFile } from './index-files.ts'
import { reachableBlobs } from './walk-trees.ts'

export interface PackState {
  readonly id: PackId
  /** Index files that name it. */
  readonly files: string[]
  readonly entries: number
  readonly fingerprint: string
  readonly type: 'data' | 'tree' | 'mixed'
  /** Of the file; undefined where it is missing or of another length than the index says. */
  readonly bytes: number | undefined
  readonly hasUncompressed: boolean
  usedBlobs: number
  usedBytes: number
  unusedBlobs: number
  unusedBytes: number
}

export interface PruneSurvey {
  readonly packs: ReadonlyMap<PackId, PackState>
  /** In the store, in no index: left over by what was interrupted. */
  readonly orphans: readonly { readonly id: PackId; readonly bytes: number }[]
  /** Whether the blob at this place is the one that counts. */
  readonly isKept: (pack: PackId, entry: PackEntry) => boolean
  readonly indexFiles: readonly string[]
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
  const roots = snapshots.map(({ id, tree }) => ({ tree, path: `snapshot ${id.slice(0, 8)}:/` }))
  const used = await reachableBlobs(vault, roots, {
    abort: options.abort,
    onProgress: (done) => options.onProgress({ stage: 'trees', done }),
  })
  const stored = new Map((await vault.store.list('pack')).map(({ name, bytes }) => [name, bytes]))
  const indexFiles = await listIndexFiles(vault)
  const packs = new Map<PackId, PackState>()
  for (const [done, file] of indexFiles.entries()) {
    options.abort()
    for (const pack of await readIndexFile(vault, file)) countPack({ packs, used, stored }, pack, file)
    options.onProgress({ stage: 'indexes', done: done + 1 })
  }
  requireAllPlaced(used, packs)
  const chosen = await chooseAmongDuplicates(vault, { packs, used, indexFiles, abort: options.abort })
  const orphans: { id: PackId; bytes: number }[] = []
  for (const [name, bytes] of stored) if (!packs.has(name as PackId)) orphans.push({ id: name as PackId, bytes })
  return { packs, orphans, indexFiles, isKept: (pack, entry) => isKept({ used, chosen }, pack, entry) }
}

interface Counting {
  readonly packs: Map<PackId, PackState>
  readonly used: BlobSet
  readonly stored: ReadonlyMap<string, number>
}

function countPack({ packs, used, stored }: Counting, pack: IndexedPack, file: string): void {
  const fingerprint = fingerprintOf(pack.entries)
  const known = packs.get(pack.id)
  if (known !== undefined) {
    // An interrupted rewriting of index files leaves packs that are named twice.
    if (known.fingerprint !== fingerprint) throw contradiction(pack.id)
    known.files.push(file)
    return
  }
  const bytes = stored.get(pack.id)
  const isWhole = bytes === packBytes(pack.entries)
  const state: PackState = {
    id: pack.id,
    files: [file],
    entries: pack.entries.length,
    fingerprint,
    type: typeOf(pack.entries),
    bytes: isWhole ? bytes : undefined,
    hasUncompressed: pack.entries.some(({ plainBytes }) => plainBytes === undefined),
    usedBlobs: 0,
    usedBytes: 0,
    unusedBlobs: 0,
    unusedBytes: 0,
  }
  for (const entry of pack.entries) {
    const row = isWhole ? used.rowOf(entry.id, entry.type) : -1
    if (row >= 0) used.counts.increment(row)
    count(state, entry, row >= 0, 1)
  }
  packs.set(pack.id, state)
}

function count(state: PackState, entry: PackEntry, isUsed: boolean, sign: 1 | -1): void {
  if (isUsed) {
    state.usedBlobs += sign
    state.usedBytes += sign * entry.length
  } else {
    state.unusedBlobs += sign
    state.unusedBytes += sign * entry.length
  }
}

function typeOf(entries: readonly PackEntry[]): PackState['type'] {
  const trees = entries.filter(({ type }) => type === 'tree').length
  if (trees === 0) return 'data'
  return trees === entries.length ? 'tree' : 'mixed'
}

/** Equal for equal entries. What is compared was authenticated before: no adversary chooses it. */
function fingerprintOf(entries: readonly PackEntry[]): string {
  let ids = 0
  let offsets = 0
  for (const { id, offset, length } of entries) {
    ids = (ids ^ Number.parseInt(id.slice(0, 8), 16)) >>> 0
    offsets += offset * 31 + length
  }
  return `${entries.length}:${ids}:${offsets}`
}

function contradiction(pack: PackId): Failure {
  return new Failure({
    code: 'prune_refused',
    message: `nothing was pruned: two index files say different things about pack ${pack}`,
    hint: 'Run "repair index" first.',
  })
}

function requireAllPlaced(used: BlobSet, packs: ReadonlyMap<PackId, PackState>): void {
  const missing: string[] = []
  let count = 0
  used.each((id, type, row) => {
    if (used.counts.get(row) > 0) return
    count += 1
    if (missing.length < 3) missing.push(`${type} blob ${id}`)
  })
  if (count === 0) return
  const broken = [...packs.values()].filter(({ bytes }) => bytes === undefined)
  const [first] = broken
  const packsText =
    first === undefined ? '' : `; ${broken.length} packs are missing or have a wrong length, among them ${first.id}`
  throw new Failure({
    code: 'prune_refused',
    message: `nothing was pruned: ${count} blobs that snapshots need cannot be found: ${missing.join(', ')}${count > missing.length ? ' …' : ''}${packsText}`,
    hint: 'Run "repair index"; if blobs are still missing, "repair snapshots --forget"; then prune again.',
  })
}

interface Duplicates {
  readonly packs: ReadonlyMap<PackId, PackState>
  readonly used: BlobSet
  readonly indexFiles: readonly string[]
  readonly abort: () => void
}

interface Place {
  readonly pack: PackState
  readonly offset: number
}

/**
 * For each used blob with several places, the one that counts, by row; the others then count as unused. Packs that are
 * used as a whole come first: after an interrupted prune those are the new ones, and the old ones empty out.
 */
async function chooseAmongDuplicates(vault: Vault, given: Duplicates): Promise<ReadonlyMap<number, Place>> {
  const { packs, used, indexFiles, abort } = given
  const chosen = new Map<number, Place>()
  let hasDuplicates = false
  used.each((_id, _type, row) => {
    hasDuplicates ||= used.counts.get(row) > 1
  })
  if (!hasDuplicates) return chosen
  const unusedBefore = new Map([...packs.values()].map((pack) => [pack.id, pack.unusedBytes]))
  const isBetter = (one: Place, other: Place) => {
    const difference = (unusedBefore.get(one.pack.id) ?? 0) - (unusedBefore.get(other.pack.id) ?? 0)
    if (difference !== 0) return difference < 0
    return one.pack.id === other.pack.id ? one.offset < other.offset : one.pack.id < other.pack.id
  }
  const eachDuplicate = async (visit: (row: number, place: Place, entry: PackEntry) => void) => {
    for (const file of indexFiles) {
      abort()
      for (const { id, entries } of await readIndexFile(vault, file)) {
        const pack = packs.get(id)
        // Each pack once, also where several files name it.
        if (pack === undefined || pack.bytes === undefined || pack.files[0] !== file) continue
        for (const entry of entries) {
          const row = used.rowOf(entry.id, entry.type)
          if (row >= 0 && used.counts.get(row) > 1) visit(row, { pack, offset: entry.offset }, entry)
        }
      }
    }
  }
  await eachDuplicate((row, place) => {
    const best = chosen.get(row)
    if (best === undefined || isBetter(place, best)) chosen.set(row, place)
  })
  await eachDuplicate((row, place, entry) => {
    const best = chosen.get(row)
    if (best?.pack === place.pack && best.offset === place.offset) return
    count(place.pack, entry, true, -1)
    count(place.pack, entry, false, 1)
  })
  return chosen
}

interface Kept {
  readonly used: BlobSet
  readonly chosen: ReadonlyMap<number, Place>
}

function isKept({ used, chosen }: Kept, pack: PackId, entry: PackEntry): boolean {
  const row = used.rowOf(entry.id, entry.type)
  if (row < 0) return false
  const place = chosen.get(row)
  return place === undefined || (place.pack.id === pack && place.offset === entry.offset)
}
