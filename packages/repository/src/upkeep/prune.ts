/**
 * Owns removing what no snapshot refers to. Runs under an exclusive lock, which the caller holds.
 *
 * Invariants: 1. the order is: new packs, their indexes, indexes without the old packs, old indexes deleted, old packs
 * deleted; each step is durable before the next. After a crash anywhere every listed snapshot is whole, and the next
 * prune goes on from there. 2. Nothing is decided by clocks: what counts is what snapshots reach, under the lock.
 * 3. A repository in which anything that a snapshot needs is missing is left as it is.
 */
import type { PackId, SnapshotId } from '../format/ids.ts'
import type { PackEntry } from '../format/pack.ts'
import type { Vault } from '../vault.ts'
import { deleteIfThere, readIndexFile, rewriteIndexFiles } from './index-files.ts'
import { readPackBlobs } from './pack-stream.ts'
import { idsOf, type PrunePlan, type PrunePolicy, type PruneStats, planPrune } from './prune-plan.ts'
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
  await vault.index.refresh()
  const ignoreSnapshots =
    options.dryRun === true ? (options.ignoreSnapshots ?? new Set<SnapshotId>()) : new Set<never>()
  const survey = await surveyForPrune(vault, { abort, ignoreSnapshots, onProgress: progress })
  const plan = planPrune(survey, options)
  if (options.dryRun === true) return { ...plan.stats, isDryRun: true }
  // Nobody can refer to packs of no index; first, for they may be what fills the disk.
  await deletePacks(vault, idsOf(plan.orphans), abort, () => {})
  await repack(vault, { survey, plan, abort, progress, compressAll: options.repackUncompressed === true })
  const old = [...plan.repack, ...plan.remove, ...plan.drop]
  const files = new Set(old.flatMap((pack) => pack.files))
  if (files.size > 0) {
    progress({ stage: 'rewrite', done: 0, total: files.size })
    await rewriteIndexFiles(vault, { files: [...files], drop: new Set(idsOf(old)), abort })
  }
  await deletePacks(vault, idsOf(old), abort, (done) => progress({ stage: 'delete', done, total: old.length }))
  await vault.store.sweep()
  await vault.index.refresh()
  return { ...plan.stats, isDryRun: false }
}

interface Repacking {
  readonly survey: PruneSurvey
  readonly plan: PrunePlan
  readonly abort: () => void
  readonly progress: (progress: PruneProgress) => void
  readonly compressAll: boolean
}

/** Everything used of the packs to repack lies in new packs, named by new indexes, when it resolves. */
async function repack(vault: Vault, { survey, plan, abort, progress, compressAll }: Repacking): Promise<void> {
  if (plan.repack.length === 0) return
  const wanted = await keptEntries(vault, survey, plan)
  const repacker = createRepacker(vault, compressAll)
  let done = 0
  for (const [pack, entries] of wanted) {
    for await (const blob of readPackBlobs(vault, pack, entries)) {
      abort()
      await repacker.add(blob)
    }
    done += 1
    progress({ stage: 'repack', done, total: wanted.size })
  }
  abort()
  await repacker.finish()
}

async function keptEntries(vault: Vault, survey: PruneSurvey, plan: PrunePlan): Promise<Map<PackId, PackEntry[]>> {
  const kept = new Map<PackId, PackEntry[]>(plan.repack.map(({ id }) => [id, []]))
  for (const file of new Set(plan.repack.flatMap(({ files }) => files.slice(0, 1)))) {
    for (const pack of await readIndexFile(vault, file)) {
      if (survey.packs.get(pack.id)?.files[0] !== file) continue
      const entries = pack.entries.filter((entry) => survey.isKept(pack.id, entry))
      if (kept.has(pack.id)) kept.set(pack.id, entries)
    }
  }
  return kept
}

async function deletePacks(
  vault: Vault,
  packs: readonly PackId[],
  abort: () => void,
  onDone: (done: number) => void,
): Promise<void> {
  for (const [at, name] of packs.entries()) {
    abort()
    await deleteIfThere(vault, 'pack', name)
    onDone(at + 1)
  }
}
