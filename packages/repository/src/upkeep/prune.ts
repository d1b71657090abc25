/**
 * Owns removing what no snapshot refers to. Runs under an exclusive lock, which the caller holds.
 *
 * Invariants: 1. the order is: new packs, their indexes, indexes without the old packs, old indexes deleted, old packs
 * deleted; each step is durable before the next. After a crash anywhere every listed snapshot is whole, and the next
 * prune goes on from there. 2. Nothing is decided by clocks: what counts is what snapshots reach, under the lock.
 * 3. A repository in which anything that a snapshot needs is missing is left as it is. 4. Where there is no room for new
 * packs, what goes as a whole is deleted first, and then no more is copied at a time than has been freed: no new pack
 * needs room that nothing has made.
 */
import { assert, Failure, isFailure } from '@stillpoint/core/kernel'
import type { PackId, SnapshotId } from '../format/ids.ts'
import { createBitSet } from '../index-memory/bit-set.ts'
import type { Vault } from '../vault.ts'
import { deleteIfThere, readIndexFile, rewriteIndexFiles } from './index-files.ts'
import { readPackBlobs } from './pack-stream.ts'
import { replaceInPlace } from './prune-in-place.ts'
import { type PrunePlan, type PrunePolicy, type PruneStats, planPrune } from './prune-plan.ts'
import { sumOfRounds } from './prune-rounds.ts'
import { type PruneSurvey, surveyForPrune } from './prune-survey.ts'
import { createRepacker, type Repacker } from './repacker.ts'

export interface PruneProgress {
  readonly stage: 'trees' | 'indexes' | 'repack' | 'rewrite' | 'delete'
  readonly done: number
  /** Undefined where it is not known beforehand. */
  readonly total?: number
}

export interface PruneOptions extends PrunePolicy {
  /** Says what would be done, and does nothing. */
  readonly dryRun?: boolean
  /** For a dry run: as if these were forgotten already. */
  readonly ignoreSnapshots?: ReadonlySet<SnapshotId>
  /**
   * For a storage that has no room for one index file: each is deleted before the one in its place is written, and nothing
   * is copied. Killed in between, the repository has to be repaired (`repairIndex`) before it can be read.
   */
  readonly withoutRoom?: boolean
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: PruneProgress) => void
}

export interface PruneReport extends PruneStats {
  readonly isDryRun: boolean
  /** There was no room for new packs: see invariant 4. */
  readonly wasFull: boolean
}

/** @throws Failure `prune_refused`, `object_damaged`, `object_missing`, `no_space`, … */
export async function pruneRepository(
  vault: Vault,
  lockSignal: AbortSignal,
  options: PruneOptions = {},
): Promise<PruneReport> {
  const abort = () => {
    options.signal?.throwIfAborted()
    lockSignal.throwIfAborted()
  }
  const pruning: Pruning = { vault, abort, progress: (of) => options.onProgress?.(of), options }
  let copyBytes = options.withoutRoom === true ? 0 : (options.maxRepackBytes ?? Number.POSITIVE_INFINITY)
  let roomBytes = Number.POSITIVE_INFINITY
  let short: Short | undefined
  const rounds: PruneStats[] = []
  for (let isDone = false; !isDone; ) {
    const round = await pruneOnce(pruning, { maxRepackBytes: copyBytes, roomBytes })
    rounds.push(round.stats)
    short ??= round.short
    copyBytes -= round.stats.toRepack.bytes
    const freedBytes = round.stats.repackRemoves.bytes
    if (round.short !== undefined) {
      // Half of it where that was not enough: else it could go on so for ever.
      roomBytes = Math.min(round.stats.toDelete.bytes + round.short.discardedBytes, Math.floor(roomBytes / 2))
    } else if (short !== undefined && freedBytes > 0) {
      roomBytes += freedBytes
    } else {
      isDone = true
    }
  }
  const stats = sumOfRounds(rounds)
  if (short !== undefined && stats.toDelete.bytes + stats.repackRemoves.bytes === 0) throw noRoom(short.failure)
  return { ...stats, isDryRun: options.dryRun === true, wasFull: short !== undefined }
}

interface Pruning {
  readonly vault: Vault
  readonly abort: () => void
  readonly progress: (progress: PruneProgress) => void
  readonly options: PruneOptions
}

interface Round {
  /** Where room was short: without what was to be copied. */
  readonly stats: PruneStats
  readonly short?: Short
}

interface RoundLimits {
  readonly maxRepackBytes: number
  readonly roomBytes: number
}

async function pruneOnce({ vault, abort, progress, options }: Pruning, limits: RoundLimits): Promise<Round> {
  const ignoreSnapshots =
    options.dryRun === true ? (options.ignoreSnapshots ?? new Set<SnapshotId>()) : new Set<never>()
  const survey = await surveyForPrune(vault, { abort, ignoreSnapshots, onProgress: progress })
  const plan = planPrune(survey, { ...options, ...limits, packBytesUsual: vault.writes.packBytes })
  if (options.dryRun === true) return { stats: plan.stats }
  // Nobody can refer to packs of no index; first, for they may be what fills the disk.
  await deletePacks(vault, { packs: plan.orphans, idOf: ({ id }) => id }, abort, () => {})
  const compressAll = options.repackUncompressed === true
  const short = await repack(vault, { survey, plan, abort, progress, compressAll })
  const old = short === undefined ? [...plan.repack, ...plan.remove, ...plan.drop] : [...plan.remove, ...plan.drop]
  const needsRoom = short !== undefined || options.withoutRoom === true
  await rewriteIndexes(vault, { survey, old, abort, progress, needsRoom, inPlace: options.withoutRoom === true })
  const { index } = survey
  await deletePacks(vault, { packs: old, idOf: index.packId }, abort, (done) =>
    progress({ stage: 'delete', done, total: old.length }),
  )
  await vault.store.sweep()
  await vault.index.refresh()
  return short === undefined ? { stats: plan.stats } : { stats: withoutRepacking(plan.stats), short }
}

function withoutRepacking(stats: PruneStats): PruneStats {
  const none = { blobs: 0, bytes: 0 }
  return { ...stats, toRepack: none, repackRemoves: none, packsRepacked: 0 }
}

function noRoom(cause: Failure): Failure {
  return new Failure({
    code: 'no_space',
    message: `nothing could be freed, for that takes room for new packs: ${cause.message}`,
    hint: 'Forget more snapshots and prune again, so that packs go as a whole; or make room there for some packs.',
    retry: 'later',
    cause,
  })
}

interface Rewriting {
  readonly survey: PruneSurvey
  readonly old: readonly number[]
  readonly abort: () => void
  readonly progress: (progress: PruneProgress) => void
  /** One file after another: there is no room for all of them twice. */
  readonly needsRoom: boolean
  /** Not even for one. */
  readonly inPlace: boolean
}

/** No index file names the old packs when it resolves. */
async function rewriteIndexes(vault: Vault, rewriting: Rewriting): Promise<void> {
  const { survey, old, abort, progress, needsRoom, inPlace } = rewriting
  const { index, named } = survey
  const files = new Set<string>()
  const dropped = createBitSet(index.packNumberEnd)
  for (const pack of old) {
    for (const file of named.filesOf(pack)) files.add(file)
    dropped.add(pack)
  }
  if (files.size === 0) return
  progress({ stage: 'rewrite', done: 0, total: files.size })
  const isDropped = (id: PackId) => dropped.has(index.packNumber(id))
  if (!needsRoom) return rewriteIndexFiles(vault, { files: [...files], isDropped, abort })
  for (const [done, file] of [...files].entries()) {
    abort()
    if (inPlace) await replaceInPlace(vault, file, isDropped)
    else await rewriteIndexFiles(vault, { files: [file], isDropped, abort })
    progress({ stage: 'rewrite', done: done + 1, total: files.size })
  }
}

interface Repacking {
  readonly survey: PruneSurvey
  readonly plan: PrunePlan
  readonly abort: () => void
  readonly progress: (progress: PruneProgress) => void
  readonly compressAll: boolean
}

interface Short {
  readonly failure: Failure
  readonly discardedBytes: number
}

/**
 * Everything used of the packs to repack lies in new packs, named by new indexes, when it resolves; where there was no
 * room for that, it says so, and only packs that an index names are left of it.
 */
async function repack(vault: Vault, repacking: Repacking): Promise<Short | undefined> {
  if (repacking.plan.repack.length === 0) return undefined
  const repacker = createRepacker(vault, repacking.compressAll)
  try {
    await repackAll(vault, repacker, repacking)
    return undefined
  } catch (failure) {
    if (!(failure instanceof Failure) || !isFailure(failure, 'no_space')) throw failure
    return { failure, discardedBytes: await repacker.discard() }
  }
}

/** One index file after another: what they say of all packs need not fit into memory. */
async function repackAll(
  vault: Vault,
  repacker: Repacker,
  { survey, plan, abort, progress }: Repacking,
): Promise<void> {
  const { index, named } = survey
  const left = createBitSet(index.packNumberEnd)
  for (const pack of plan.repack) left.add(pack)
  const files = new Set(plan.repack.flatMap((pack) => named.filesOf(pack).slice(0, 1)))
  let done = 0
  for (const file of files) {
    abort()
    for (const { id, entries } of await readIndexFile(vault, file)) {
      const pack = index.packNumber(id)
      // Each once, also where several files name it.
      if (!left.has(pack) || named.filesOf(pack)[0] !== file) continue
      left.remove(pack)
      const kept = entries.filter((entry) => survey.isKept(pack, entry))
      for await (const blob of readPackBlobs(vault, id, kept)) {
        abort()
        await repacker.add(blob)
      }
      done += 1
      progress({ stage: 'repack', done, total: plan.repack.length })
    }
  }
  assert(done === plan.repack.length, 'every pack to repack is in an index file')
  abort()
  await repacker.finish()
}

interface Doomed<T> {
  readonly packs: readonly T[]
  readonly idOf: (pack: T) => PackId
}

async function deletePacks<T>(
  vault: Vault,
  { packs, idOf }: Doomed<T>,
  abort: () => void,
  onDone: (done: number) => void,
): Promise<void> {
  for (const [at, pack] of packs.entries()) {
    abort()
    await deleteIfThere(vault, 'pack', idOf(pack))
    onDone(at + 1)
  }
}
