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
import { listSnapshots } from '../load/snapshots.ts'
import { namingDamage, readObject, type Vault } from '../vault.ts'
import { type DataRead, readPacks } from './check-data.ts'
import { checkTrees } from './check-trees.ts'
import type { CoverageStore } from './coverage-file.ts'
import { type DataSubset, packsToRead } from './data-subset.ts'
import { verifyIndexFile } from './index-files.ts'
import { type PackListing, packListing } from './pack-listing.ts'
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
  readonly snapshots: number
  readonly trees: number
  readonly packs: number
  readonly packsRead: number
  readonly bytesRead: number
  /** Undefined where nothing remembers. */
  readonly coverage: ReadCoverage | undefined
}

interface Check {
  readonly vault: Vault
  readonly problems: Failure[]
  readonly progress: (progress: CheckProgress) => void
  readonly abort: () => void
}

export async function checkRepository(
  vault: Vault,
  lockSignal: AbortSignal,
  options: CheckOptions = {},
): Promise<CheckReport> {
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
  const snapshots = await listSnapshots(vault, { onDamaged: (failure) => check.problems.push(failure) })
  await checkIndexes(check)
  const listing = await checkPacks(check)
  const roots = snapshots.map((snapshot) => ({ tree: snapshot.tree, path: `snapshot ${snapshot.id}:/` }))
  const { trees, data } = await checkContents(check, { roots, listing }, options)
  const { read, coverage } = data
  return {
    problems: check.problems,
    unreferencedPacks: listing.unknown.map(({ id }) => id),
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
}

interface ContentsCheck {
  readonly trees: number
  readonly data: DataCheck
}

/** Trees are this thread's work, data that of the others: both at once. Where one fails, the other ends before it is told. */
async function checkContents(
  check: Check,
  { roots, listing }: Contents,
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
  const checkingTrees = checkTrees(check.vault, roots, {
    noting: (work, path) => noting(treesPart, work, path),
    report: (problem) => treesPart.problems.push(problem),
    onTree: (done) => check.progress({ stage: 'trees', done }),
  })
  const ended = await Promise.allSettled([ending(checkingTrees), ending(checkData(dataPart, listing, options))])
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

/** Reads the packs that the options name, also those in no index. */
async function checkData(check: Check, listing: PackListing, options: CheckOptions): Promise<DataCheck> {
  const { clock } = check.vault
  const {
    readData = false,
    dataSubset,
    readBudget,
    coverage: store,
    coverageWithinMs: withinMs = coverageWithinDefaultMs,
  } = options
  if (readBudget !== undefined && store === undefined) {
    const message = 'a budget for reading data needs a place that remembers what was read'
    throw new Failure({ code: 'options_invalid', message })
  }
  const isWanted = readData || dataSubset !== undefined || readBudget !== undefined || store !== undefined
  if (!isWanted) return { read: { packs: 0, bytes: 0 }, coverage: undefined }
  const times = createReadTimes(listing)
  await store?.load(times.set)
  const chosen = chosenPacks(check, { listing, options, times })
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
      packs: chosen.packs,
      abort: check.abort,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      goesOn: () => untilMs === undefined || done === 0 || clock.monotonicMs() < untilMs,
      noting: async (part) => noting(check, part),
      onRead(pack, isSound) {
        done += 1
        check.progress({ stage: 'data', done, total: chosen.count })
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
  readonly listing: PackListing
  readonly options: CheckOptions
  readonly times: ReadTimes
}

interface Chosen {
  readonly packs: Iterable<StoredObject>
  readonly count: number
}

/** Without an object for each at the same time: there may be millions. */
function chosenPacks(check: Check, { listing, options, times }: Choice): Chosen {
  const { readData = false, dataSubset, readBudget } = options
  const these = (places: Uint32Array): Chosen => ({ packs: packsAt(listing, places), count: places.length })
  if (readBudget !== undefined) return these(packsInBudget(listing, readBudget, times))
  if (dataSubset !== undefined) return these(packsToRead(listing, dataSubset, check.vault.random))
  return readData ? { packs: listing.all, count: listing.count } : { packs: [], count: 0 }
}

function* packsAt(listing: PackListing, places: Uint32Array): Generator<StoredObject> {
  for (const place of places) {
    const pack = listing.packAt(place)
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
