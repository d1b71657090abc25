/**
 * Owns checking a repository: that all that is referred to is there, and with `readData` that every byte is what it was.
 * Does not own repairing. A snapshot that was deleted as a whole leaves no trace and cannot be noticed.
 *
 * Invariant: a problem names the object's kind, id and path. A check that finds nothing has looked at everything that
 * the report counts.
 */
import { assert, Failure, isFailure } from '@stillpoint/core/kernel'
import { listAll, type ObjectName, type StoredObject } from '../blob/blob-store.ts'
import { errnoOf } from '../blob/storage-failure.ts'
import type { PackId } from '../format/ids.ts'
import { decodeKeyFile } from '../format/key-file.ts'
import { namingDamage, readObject, type Vault } from '../vault.ts'
import { choosesAll, chosenSnapshots, packsHolding, type SnapshotChoice } from './check-choice.ts'
import { type DataRead, readPacks } from './check-data.ts'
import { checkTrees } from './check-trees.ts'
import type { CoverageStore } from './coverage-file.ts'
import { type DataSubset, packsToRead } from './data-subset.ts'
import { verifyIndexFile } from './index-files.ts'
import { type PackListing, type PackPlaces, packListing, placesOf } from './pack-listing.ts'
import { createReachedBlobs } from './reached-blobs.ts'
import { coverageOf, packsInBudget, type ReadBudget, type ReadCoverage } from './read-coverage.ts'
import { createReadTimes, type ReadTimes } from './read-times.ts'
import type { TreeRoot } from './walk-trees.ts'

export interface CheckProgress {
  readonly stage: 'keys' | 'indexes' | 'packs' | 'trees' | 'data'
  readonly done: number
  /** Undefined where it is not known beforehand. */
  readonly total?: number
}

export interface CheckOptions {
  /**
   * Checks the trees of these snapshots only, and chooses the packs whose data is read among those that their blobs lie in.
   * Keys, index files and the list of packs are looked at in any case.
   */
  readonly only?: SnapshotChoice
  /** Also reads, decrypts and hashes every blob of every pack. */
  readonly readData?: boolean
  /** Reads the data of some packs only. */
  readonly dataSubset?: DataSubset
  /** Reads, of the data, what has not been read longest, as far as this goes. Needs `coverage`. */
  readonly readBudget?: ReadBudget
  /** Remembers which packs were read when: then the report tells how much that is. */
  readonly coverage?: CoverageStore
  /** What the report counts as read lately. Default: 30 days. */
  readonly coverageWithinMs?: number
  /** Keeps everybody else out meanwhile. */
  readonly exclusive?: boolean
  /** Reads what is kept of the repository near here: faster, and then it is not the repository that is checked. */
  readonly withCache?: boolean
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: CheckProgress) => void
}

export interface CheckReport {
  /** Empty when the repository is sound. */
  readonly problems: readonly Failure[]
  /** Packs in no index: remains of interrupted saves, harmless, removed by a prune. */
  readonly unreferencedPacks: readonly PackId[]
  /** Whether only some snapshots were asked for, by name or by what they have. */
  readonly isPartial: boolean
  /** That were checked. */
  readonly snapshots: number
  readonly trees: number
  readonly packs: number
  readonly packsRead: number
  readonly bytesRead: number
  /** Of all packs, also of a check of some snapshots; undefined where nothing remembers. */
  readonly coverage: ReadCoverage | undefined
}

interface Check {
  readonly vault: Vault
  readonly problems: Failure[]
  readonly progress: (progress: CheckProgress) => void
  readonly abort: () => void
}

const everySnapshot: SnapshotChoice = { ids: [], selection: {} }

/** @throws Failure `options_invalid`, `snapshot_absent`, `snapshot_ambiguous` and those of the store and of locks */
export async function checkRepository(
  vault: Vault,
  lockSignal: AbortSignal,
  options: CheckOptions = {},
): Promise<CheckReport> {
  if (options.readBudget !== undefined && options.coverage === undefined) {
    const message = 'a budget for reading data needs a place that remembers what was read'
    throw new Failure({ code: 'options_invalid', message })
  }
  const { only = everySnapshot } = options
  const check: Check = {
    vault,
    problems: [],
    progress: (progress) => options.onProgress?.(progress),
    abort: () => {
      options.signal?.throwIfAborted()
      lockSignal.throwIfAborted()
    },
  }
  await checkNames(check)
  // Before the index: what a snapshot needs was indexed before it was written.
  const snapshots = await chosenSnapshots(vault, only, {
    onDamaged: (failure) => check.problems.push(failure),
    noting: (part) => noting(check, part),
  })
  await checkIndexes(check)
  const listing = await checkPacks(check)
  const roots = snapshots.map((snapshot) => ({ tree: snapshot.tree, path: `snapshot ${snapshot.id}:/` }))
  const isPartial = !choosesAll(only)
  const { trees, data } = await checkContents(check, { roots, listing, isPartial }, options)
  const { read, coverage } = data
  return {
    problems: check.problems,
    unreferencedPacks: listing.unknown.map(({ id }) => id),
    isPartial,
    snapshots: snapshots.length,
    trees,
    packs: listing.count,
    packsRead: read.packs,
    bytesRead: read.bytes,
    coverage,
  }
}

interface Contents {
  readonly roots: readonly TreeRoot[]
  readonly listing: PackListing
  readonly isPartial: boolean
}

interface ContentsCheck {
  readonly trees: number
  readonly data: DataCheck
}

/**
 * Trees are this thread's work, data that of the others: both at once, unless only the trees tell which data is meant. Where
 * one fails, the other ends before it is told.
 */
async function checkContents(
  check: Check,
  { roots, listing, isPartial }: Contents,
  options: CheckOptions,
): Promise<ContentsCheck> {
  const failed = new AbortController()
  const part = (): Check => ({
    ...check,
    problems: [],
    abort() {
      failed.signal.throwIfAborted()
      check.abort()
    },
  })
  const [treesPart, dataPart] = [part(), part()]
  const ending = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work
    } catch (error) {
      failed.abort(error)
      throw error
    }
  }
  const reached = isPartial && readsData(options) ? createReachedBlobs(listing.index) : undefined
  const checkingTrees = checkTrees(check.vault, roots, {
    noting: (work, path) => noting(treesPart, work, path),
    report: (problem) => treesPart.problems.push(problem),
    reached,
    onTree: (done) => check.progress({ stage: 'trees', done }),
  })
  async function checkingData(): Promise<DataCheck> {
    if (reached === undefined) return checkData(dataPart, { listing, from: listing }, options)
    await checkingTrees
    return checkData(dataPart, { listing, from: packsHolding(listing, reached) }, options)
  }
  const ended = await Promise.allSettled([ending(checkingTrees), ending(checkingData())])
  // The one that failed first is why the other ended.
  failed.signal.throwIfAborted()
  const [trees, data] = ended
  assert(trees.status === 'fulfilled' && data.status === 'fulfilled', 'what has not failed has an answer')
  check.problems.push(...treesPart.problems, ...dataPart.problems)
  return { trees: trees.value, data: data.value }
}

const dayMs = 24 * 3_600_000
const coverageWithinDefaultMs = 30 * dayMs
/** What a crash may make be read again. */
const rememberEveryMs = 30_000

interface DataCheck {
  readonly read: DataRead
  readonly coverage: ReadCoverage | undefined
}

const readsData = ({ readData = false, dataSubset, readBudget }: CheckOptions): boolean =>
  readData || dataSubset !== undefined || readBudget !== undefined

interface DataPlaces {
  readonly listing: PackListing
  /** What there is to choose from: all of the listing, also packs in no index, or some. */
  readonly from: PackPlaces
}

/** Reads the packs that the options name. */
async function checkData(check: Check, { listing, from }: DataPlaces, options: CheckOptions): Promise<DataCheck> {
  const { clock } = check.vault
  const { readBudget, coverage: store, coverageWithinMs: withinMs = coverageWithinDefaultMs } = options
  if (!readsData(options) && store === undefined) return { read: { packs: 0, bytes: 0 }, coverage: undefined }
  const times = createReadTimes(listing)
  await store?.load(times.set)
  const chosen = chosenPacks(check, { from, options, times })
  const untilMs = readBudget?.kind === 'time' ? clock.monotonicMs() + readBudget.durationMs : undefined
  let done = 0
  let rememberedMs = clock.monotonicMs()
  let remembering: Promise<void> = Promise.resolve()
  const remember = async () => {
    rememberedMs = clock.monotonicMs()
    await store?.save(times.all)
  }
  try {
    const read = await readPacks(check.vault, {
      packs: packsAt(from, chosen),
      abort: check.abort,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      goesOn: () => untilMs === undefined || done === 0 || clock.monotonicMs() < untilMs,
      noting: async (part) => noting(check, part),
      onRead(pack, isSound) {
        done += 1
        check.progress({ stage: 'data', done, total: chosen.length })
        if (isSound) times.set(pack.name, clock.wallMs())
        else times.forget(pack.name)
        if (clock.monotonicMs() - rememberedMs > rememberEveryMs) remembering = remembering.then(remember)
      },
    })
    const question = { times, nowMs: clock.wallMs(), withinMs }
    return { read, coverage: store === undefined ? undefined : coverageOf(listing, question) }
  } finally {
    // Also what was read before an abort was read.
    await remembering
    if (done > 0) await remember()
  }
}

interface Choice {
  readonly from: PackPlaces
  readonly options: CheckOptions
  readonly times: ReadTimes
}

/** Places, not an object for each pack at the same time: there may be millions. */
function chosenPacks(check: Check, { from, options, times }: Choice): Uint32Array {
  const { readData = false, dataSubset, readBudget } = options
  if (readBudget !== undefined) return packsInBudget(from, readBudget, times)
  if (dataSubset !== undefined) return packsToRead(from, dataSubset, check.vault.random)
  return readData ? placesOf(from) : new Uint32Array()
}

function* packsAt(packs: PackPlaces, places: Uint32Array): Generator<StoredObject> {
  for (const place of places) {
    const pack = packs.packAt(place)
    if (pack !== undefined) yield pack
  }
}

/** Runs a part; what it finds wrong with objects is a problem, other errors go up. Answers whether nothing was wrong. */
async function noting(check: Check, part: () => Promise<void>, path?: string): Promise<boolean> {
  check.abort()
  try {
    await part()
    return true
  } catch (error) {
    const unreadable = isFailure(error, 'storage_failed') || isFailure(error, 'storage_denied')
    if (unreadable && errnoOf(error.cause) === undefined) throw error
    if (!unreadable && !isFailure(error, 'object_damaged') && !isFailure(error, 'object_missing')) {
      if (!isFailure(error, 'tree_unsafe')) throw error
    }
    const { code, message, hint } = error
    const where = path === undefined ? message : `${path}: ${message}`
    check.problems.push(new Failure({ code, message: where, ...(hint === undefined ? {} : { hint }), cause: error }))
    return false
  }
}

/** Key files are in the clear: their names and their form tell whether those of other passwords are whole. */
async function checkNames(check: Check): Promise<void> {
  const keys = await listAll(check.vault.store, 'key')
  for (const [done, { name }] of keys.entries()) {
    await noting(check, async () => {
      const key: ObjectName = { kind: 'key', name }
      const bytes = await readObject(check.vault.store, key)
      await namingDamage(check.vault.store, key, async () => decodeKeyFile(bytes))
    })
    check.progress({ stage: 'keys', done: done + 1, total: keys.length })
  }
}

async function checkIndexes(check: Check): Promise<void> {
  const indexes = await listAll(check.vault.store, 'index')
  const before = check.problems.length
  for (const [done, { name }] of indexes.entries()) {
    await noting(check, () => verifyIndexFile(check.vault, name))
    check.progress({ stage: 'indexes', done: done + 1, total: indexes.length })
  }
  // With a damaged index file, the others are what there is to check by.
  if (check.problems.length === before) await check.vault.index.refresh()
}

/** Every pack of the index is there and as long as its entries say. */
async function checkPacks(check: Check): Promise<PackListing> {
  const listing = await packListing(check.vault, check.abort)
  const { index, packNumberEnd } = listing
  let done = 0
  index.eachPack(({ number, fileBytes }) => {
    check.abort()
    if (number >= packNumberEnd) return
    const bytes = listing.bytesOf(number)
    if (bytes !== fileBytes) check.problems.push(wrongPack(check, index.packId(number), { bytes, fileBytes }))
    done += 1
    check.progress({ stage: 'packs', done, total: index.packs })
  })
  return listing
}

function wrongPack(
  { vault: { store } }: Check,
  id: PackId,
  { bytes, fileBytes }: { readonly bytes: number | undefined; readonly fileBytes: number },
): Failure {
  const where = store.locate({ kind: 'pack', name: id })
  if (bytes === undefined) {
    return new Failure({ code: 'object_missing', message: `pack ${id} is in the index, but not at ${where}` })
  }
  const message = `pack ${id} at ${where} is damaged: it has ${bytes} bytes and should have ${fileBytes}`
  return new Failure({ code: 'object_damaged', message })
}
