/**
 * Owns checking a repository: that all that is referred to is there, and with `readData` that every byte is what it was.
 * Does not own repairing. A snapshot that was deleted as a whole leaves no trace and cannot be noticed.
 *
 * Invariant: a problem names the object's kind, id and path. A check that finds nothing has looked at everything that
 * the report counts.
 */
import { Failure, isFailure, type TreeId } from '@stillpoint/core/kernel'
import type { ObjectName, StoredObject } from '../blob/blob-store.ts'
import { errnoOf } from '../blob/storage-failure.ts'
import { type BlobId, type PackId, packId } from '../format/ids.ts'
import { readIndexColumns } from '../format/index-file.ts'
import { decodeKeyFile } from '../format/key-file.ts'
import type { TreeNode } from '../format/tree.ts'
import { readTree } from '../load/blob-reader.ts'
import { listSnapshots } from '../load/snapshots.ts'
import { requireSafeNames } from '../load/tree-survey.ts'
import { eachOf } from '../parallel.ts'
import { namingDamage, readDocumentBytes, readObject, type Vault } from '../vault.ts'
import { createBlobSet } from './blob-set.ts'
import { readPacks } from './check-data.ts'
import type { CoverageStore } from './coverage-file.ts'
import { type DataSubset, packsToRead } from './data-subset.ts'
import { coverageOf, packsInBudget, type ReadBudget, type ReadCoverage, type ReadTimes } from './read-coverage.ts'

const treesInFlightMax = 8

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
  const unreferencedPacks = await checkPacks(check)
  const roots = snapshots.map((snapshot) => ({ tree: snapshot.tree, path: `snapshot ${snapshot.id}:/` }))
  const trees = await checkTrees(check, roots)
  const packs = await vault.store.list('pack')
  const { read, coverage } = await checkData(check, packs, options)
  return {
    problems: check.problems,
    unreferencedPacks,
    snapshots: snapshots.length,
    trees,
    packs: packs.length,
    packsRead: read.packs,
    bytesRead: read.bytes,
    coverage,
  }
}

const dayMs = 24 * 3_600_000
const coverageWithinDefaultMs = 30 * dayMs
/** What a crash may make be read again. */
const rememberEveryMs = 30_000

/** Reads the packs that the options name, also those in no index. */
async function checkData(check: Check, packs: readonly StoredObject[], options: CheckOptions) {
  const { clock } = check.vault
  const { readBudget, coverage: store, coverageWithinMs: withinMs = coverageWithinDefaultMs } = options
  if (readBudget !== undefined && store === undefined) {
    const message = 'a budget for reading data needs a place that remembers what was read'
    throw new Failure({ code: 'options_invalid', message })
  }
  const times = await (store?.load() ?? new Map<string, number>())
  const chosen = chosenPacks(check, { packs, options, times })
  const untilMs = readBudget?.kind === 'time' ? clock.monotonicMs() + readBudget.durationMs : undefined
  let done = 0
  let rememberedMs = clock.monotonicMs()
  let remembering: Promise<void> = Promise.resolve()
  const remember = async () => {
    rememberedMs = clock.monotonicMs()
    const present = new Map(packs.flatMap(({ name }) => entryOf(times, name)))
    await store?.save(present)
  }
  try {
    const read = await readPacks(check.vault, {
      packs: chosen,
      abort: check.abort,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      goesOn: () => untilMs === undefined || done === 0 || clock.monotonicMs() < untilMs,
      noting: async (part) => noting(check, part),
      onRead(pack, isSound) {
        done += 1
        check.progress({ stage: 'data', done, total: chosen.length })
        if (isSound) times.set(pack.name, clock.wallMs())
        else times.delete(pack.name)
        if (clock.monotonicMs() - rememberedMs > rememberEveryMs) remembering = remembering.then(remember)
      },
    })
    const question = { times, nowMs: clock.wallMs(), withinMs }
    return { read, coverage: store === undefined ? undefined : coverageOf(packs, question) }
  } finally {
    // Also what was read before an abort was read.
    await remembering
    if (done > 0) await remember()
  }
}

function entryOf(times: ReadTimes, name: string): readonly (readonly [string, number])[] {
  const readMs = times.get(name)
  return readMs === undefined ? [] : [[name, readMs]]
}

interface Choice {
  readonly packs: readonly StoredObject[]
  readonly options: CheckOptions
  readonly times: ReadTimes
}

function chosenPacks(check: Check, { packs, options, times }: Choice): readonly StoredObject[] {
  if (options.readBudget !== undefined) return packsInBudget(packs, options.readBudget, times)
  const names = new Set(packsToRead(packs, options, check.vault.random))
  return packs.filter(({ name }) => names.has(name))
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
  const keys = await check.vault.store.list('key')
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
  const indexes = await check.vault.store.list('index')
  const before = check.problems.length
  for (const [done, { name }] of indexes.entries()) {
    await noting(check, async () => {
      await readDocumentBytes(check.vault, { kind: 'index', name }, readIndexColumns)
    })
    check.progress({ stage: 'indexes', done: done + 1, total: indexes.length })
  }
  // With a damaged index file, the others are what there is to check by.
  if (check.problems.length === before) await check.vault.index.refresh()
}

/** Every pack of the index is there and as long as its entries say. Returns packs that are in no index. */
async function checkPacks(check: Check): Promise<PackId[]> {
  const { store, index } = check.vault
  const stored = new Map((await store.list('pack')).map((object) => [object.name, object.bytes]))
  let done = 0
  index.blobs.eachPack(({ id, fileBytes }) => {
    check.abort()
    const object: ObjectName = { kind: 'pack', name: id }
    const bytes = stored.get(id)
    if (bytes === undefined) check.problems.push(missingPack(check, object))
    else if (bytes !== fileBytes) {
      const message = `pack ${id} at ${store.locate(object)} is damaged: it has ${bytes} bytes and should have ${fileBytes}`
      check.problems.push(new Failure({ code: 'object_damaged', message }))
    }
    done += 1
    check.progress({ stage: 'packs', done, total: index.blobs.packs })
  })
  return [...stored.keys()].map((name) => packId(name)).filter((id) => !index.blobs.hasPack(id))
}

function missingPack(check: Check, object: ObjectName): Failure {
  const message = `pack ${object.name} is in the index, but not at ${check.vault.store.locate(object)}`
  return new Failure({ code: 'object_missing', message })
}

interface TreeAt {
  readonly tree: TreeId
  readonly path: string
}

async function checkTrees(check: Check, roots: readonly TreeAt[]): Promise<number> {
  const seen = createBlobSet()
  const waiting = roots.filter(({ tree }) => seen.add(tree, 'tree'))
  let done = 0
  // Depth first in batches: what waits is bounded by the width of a path, not of the whole repository.
  while (waiting.length > 0) {
    await eachOf(waiting.splice(-treesInFlightMax), treesInFlightMax, async (at) => {
      await noting(
        check,
        () => checkTree(check, at, (below) => seen.add(below.tree, 'tree') && waiting.push(below)),
        at.path,
      )
      done += 1
      check.progress({ stage: 'trees', done })
    })
  }
  return seen.size
}

async function checkTree(check: Check, { tree, path }: TreeAt, onFolder: (below: TreeAt) => void): Promise<void> {
  const nodes = await readTree(check.vault, tree)
  requireSafeNames(tree, nodes)
  for (const node of nodes) {
    if (node.type === 'dir') onFolder({ tree: node.subtree, path: `${path}${node.name}/` })
    if (node.type === 'file') checkContent(check, node, `${path}${node.name}`)
  }
}

function checkContent(check: Check, node: Extract<TreeNode, { type: 'file' }>, path: string): void {
  let bytes = 0
  let whole = true
  for (const id of node.content) {
    const length = plainBytesOf(check.vault, id)
    if (length === undefined) {
      whole = false
      const message = `data blob ${id} of ${path} is in no index`
      check.problems.push(new Failure({ code: 'object_missing', message }))
    }
    bytes += length ?? 0
  }
  if (!whole || bytes === node.bytes) return
  const message = `${path} should have ${node.bytes} bytes, but its content has ${bytes}`
  check.problems.push(new Failure({ code: 'object_damaged', message }))
}

function plainBytesOf(vault: Vault, id: BlobId): number | undefined {
  return vault.index.blobs.plainBytes(id, 'data')
}
