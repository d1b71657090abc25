/**
 * Owns removing what no snapshot refers to. Runs under an exclusive lock, which the caller holds.
 *
 * Invariants: 1. the order is: new packs, their indexes, indexes without the old packs, old indexes deleted, old packs
 * deleted; each step is durable before the next. After a crash anywhere every listed snapshot is whole, and the next
 * prune goes on from there. 2. Nothing is decided by clocks: what counts is what snapshots reach, under the lock.
 * 3. A repository in which anything that a snapshot needs is missing is left as it is.
 */
import { assert } from '@stillpoint/core/kernel'
import type { PackId, SnapshotId } from '../format/ids.ts'
import { createBitSet } from '../index-memory/bit-set.ts'
import type { Vault } from '../vault.ts'
import { deleteIfThere, readIndexFile, rewriteIndexFiles } from './index-files.ts'
import { readPackBlobs } from './pack-stream.ts'
import { type PrunePlan, type PrunePolicy, type PruneStats, planPrune } from './prune-plan.ts'
import { type PruneSurvey, surveyForPrune } from './prune-survey.ts'
import { createRepacker } from './repacker.ts'

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
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: PruneProgress) => void
}

export interface PruneReport extends PruneStats {
  readonly isDryRun: boolean
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
  const progress = (of: PruneProgress) => options.onProgress?.(of)
  const ignoreSnapshots =
    options.dryRun === true ? (options.ignoreSnapshots ?? new Set<SnapshotId>()) : new Set<never>()
  const survey = await surveyForPrune(vault, { abort, ignoreSnapshots, onProgress: progress })
  const plan = planPrune(survey, { ...options, packBytesUsual: vault.writes.packBytes })
  if (options.dryRun === true) return { ...plan.stats, isDryRun: true }
  // Nobody can refer to packs of no index; first, for they may be what fills the disk.
  await deletePacks(vault, { packs: plan.orphans, idOf: ({ id }) => id }, abort, () => {})
  await repack(vault, { survey, plan, abort, progress, compressAll: options.repackUncompressed === true })
  const old = [...plan.repack, ...plan.remove, ...plan.drop]
  await rewriteIndexes(vault, { survey, old, abort, progress })
  const { index } = survey
  await deletePacks(vault, { packs: old, idOf: index.packId }, abort, (done) =>
    progress({ stage: 'delete', done, total: old.length }),
  )
  await vault.store.sweep()
  await vault.index.refresh()
  return { ...plan.stats, isDryRun: false }
}

interface Rewriting {
  readonly survey: PruneSurvey
  readonly old: readonly number[]
  readonly abort: () => void
  readonly progress: (progress: PruneProgress) => void
}

/** No index file names the old packs when it resolves. */
async function rewriteIndexes(vault: Vault, { survey, old, abort, progress }: Rewriting): Promise<void> {
  const { index, named } = survey
  const files = new Set<string>()
  const dropped = createBitSet(index.packNumberEnd)
  for (const pack of old) {
    for (const file of named.filesOf(pack)) files.add(file)
    dropped.add(pack)
  }
  if (files.size === 0) return
  progress({ stage: 'rewrite', done: 0, total: files.size })
  await rewriteIndexFiles(vault, { files: [...files], isDropped: (id) => dropped.has(index.packNumber(id)), abort })
}

interface Repacking {
  readonly survey: PruneSurvey
  readonly plan: PrunePlan
  readonly abort: () => void
  readonly progress: (progress: PruneProgress) => void
  readonly compressAll: boolean
}

/**
 * Everything used of the packs to repack lies in new packs, named by new indexes, when it resolves. One index file after
 * another: what they say of all packs need not fit into memory.
 */
async function repack(vault: Vault, { survey, plan, abort, progress, compressAll }: Repacking): Promise<void> {
  if (plan.repack.length === 0) return
  const { index, named } = survey
  const left = createBitSet(index.packNumberEnd)
  for (const pack of plan.repack) left.add(pack)
  const files = new Set(plan.repack.flatMap((pack) => named.filesOf(pack).slice(0, 1)))
  const repacker = createRepacker(vault, compressAll)
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
