/**
 * Owns making the index right again from what packs are there: damaged and missing index files, packs that are gone.
 * Does not read the content of packs (check does), nor what snapshots need.
 *
 * Invariants: 1. index files that are right stay as they are. 2. New index files are durable before old ones are deleted:
 * after a crash at any point nothing is known less than before, and the next run finishes. 3. No pack is deleted: one whose
 * header cannot be read is reported and left out.
 */
import { Failure, isFailure } from '@stillpoint/core/kernel'
import { type PackId, packId } from '../format/ids.ts'
import type { IndexedPack } from '../format/index-file.ts'
import { packBytes } from '../format/pack.ts'
import type { Vault } from '../vault.ts'
import { createIndexWriter, deleteIfThere, type IndexWriter, listIndexFiles, readIndexFile } from './index-files.ts'
import { readPackHeader } from './pack-header.ts'
import { readAgain } from './read-again.ts'

export interface RepairIndexOptions {
  /** Trust no index file: read the header of every pack. */
  readonly readAllPacks?: boolean
  /** Says what would be done, and does nothing. */
  readonly dryRun?: boolean
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: {
    readonly stage: 'indexes' | 'packs'
    readonly done: number
    readonly total: number
  }) => void
}

export interface RepairIndexReport {
  /** Index files that could not be read. They are gone now. */
  readonly damagedFiles: readonly string[]
  /** Packs that were in the index and not in the store; no longer in the index. */
  readonly missingPacks: readonly PackId[]
  /** Packs whose header was read: they were in no index, or in one that was wrong about them. */
  readonly packsRead: readonly PackId[]
  /** Packs whose header is damaged; they are in no index. `repair packs` may salvage what is in them. */
  readonly unreadablePacks: readonly { readonly id: PackId; readonly failure: Failure }[]
  readonly packs: number
  readonly filesWritten: number
  readonly filesRemoved: number
}

/** @throws Failure `no_space`, `storage_failed`, … */
export async function repairIndex(
  vault: Vault,
  lockSignal: AbortSignal,
  options: RepairIndexOptions = {},
): Promise<RepairIndexReport> {
  const abort = () => {
    options.signal?.throwIfAborted()
    lockSignal.throwIfAborted()
  }
  const stored = new Map((await vault.store.list('pack')).map(({ name, bytes }) => [packId(name), bytes]))
  const survey = await surveyIndex(vault, stored, { abort, onProgress: options.onProgress })
  const trusted = options.readAllPacks === true ? new Set<PackId>() : survey.sound
  const writer = options.dryRun === true ? idleWriter() : createIndexWriter(vault)
  const covered = new Set<PackId>()
  const replaced: string[] = []
  for (const file of survey.files) {
    abort()
    const packs = await readIndexFile(vault, file)
    if (packs.length > 0 && packs.every(({ id }) => trusted.has(id) && !covered.has(id))) {
      for (const { id } of packs) covered.add(id)
      continue
    }
    replaced.push(file)
    for (const pack of packs) {
      if (!trusted.has(pack.id) || covered.has(pack.id)) continue
      covered.add(pack.id)
      await writer.add(pack)
    }
  }
  const { packsRead, unreadablePacks } = await addFromHeaders(vault, { stored, covered, writer, abort, options })
  await writer.flush()
  const fresh = new Set(writer.written)
  const old = [...replaced, ...survey.damaged].filter((name) => !fresh.has(name))
  if (options.dryRun !== true) {
    for (const name of old) {
      abort()
      await deleteIfThere(vault, 'index', name)
    }
    await vault.index.refresh()
  }
  return {
    damagedFiles: survey.damaged,
    missingPacks: [...survey.missing],
    packsRead,
    unreadablePacks,
    packs: covered.size,
    filesWritten: writer.written.length,
    filesRemoved: old.length,
  }
}

interface IndexSurvey {
  readonly files: readonly string[]
  readonly damaged: readonly string[]
  /** Packs about which all index files say the same, which fits the length of the pack. */
  readonly sound: ReadonlySet<PackId>
  readonly missing: ReadonlySet<PackId>
}

async function surveyIndex(
  vault: Vault,
  stored: ReadonlyMap<PackId, number>,
  { abort, onProgress }: { readonly abort: () => void; readonly onProgress: RepairIndexOptions['onProgress'] },
): Promise<IndexSurvey> {
  const files: string[] = []
  const damaged: string[] = []
  const missing = new Set<PackId>()
  const said = new Map<PackId, string>()
  const wrong = new Set<PackId>()
  const names = await listIndexFiles(vault)
  for (const [at, name] of names.entries()) {
    abort()
    const packs = await readIfSound(vault, name)
    if (packs === undefined) damaged.push(name)
    else files.push(name)
    for (const pack of packs ?? []) {
      const bytes = stored.get(pack.id)
      if (bytes === undefined) missing.add(pack.id)
      else if (bytes !== packBytes(pack.entries)) wrong.add(pack.id)
      const text = summaryOf(pack)
      if ((said.get(pack.id) ?? text) !== text) wrong.add(pack.id)
      said.set(pack.id, text)
    }
    onProgress?.({ stage: 'indexes', done: at + 1, total: names.length })
  }
  const sound = new Set([...said.keys()].filter((id) => !missing.has(id) && !wrong.has(id)))
  return { files, damaged, sound, missing }
}

function summaryOf({ entries }: IndexedPack): string {
  let ids = 0
  for (const { id, offset } of entries) ids = (Math.imul(ids, 31) + Number.parseInt(id.slice(0, 8), 16) + offset) >>> 0
  return `${entries.length}:${ids}`
}

async function readIfSound(vault: Vault, name: string): Promise<readonly IndexedPack[] | undefined> {
  try {
    return await readAgain(() => readIndexFile(vault, name))
  } catch (error) {
    if (isFailure(error, 'object_damaged')) return undefined
    throw error
  }
}

interface Reading {
  readonly stored: ReadonlyMap<PackId, number>
  readonly covered: Set<PackId>
  readonly writer: IndexWriter
  readonly abort: () => void
  readonly options: RepairIndexOptions
}

async function addFromHeaders(
  vault: Vault,
  { stored, covered, writer, abort, options }: Reading,
): Promise<Pick<RepairIndexReport, 'packsRead' | 'unreadablePacks'>> {
  const packsRead: PackId[] = []
  const unreadablePacks: { id: PackId; failure: Failure }[] = []
  const unknown = [...stored].filter(([id]) => !covered.has(id))
  for (const [at, [id, bytes]] of unknown.entries()) {
    abort()
    try {
      const entries = await readAgain(() => readPackHeader(vault, id, bytes))
      await writer.add({ id, entries })
      covered.add(id)
      packsRead.push(id)
    } catch (error) {
      if (!(error instanceof Failure) || !['object_damaged', 'object_missing'].includes(error.code)) throw error
      unreadablePacks.push({ id, failure: error })
    }
    options.onProgress?.({ stage: 'packs', done: at + 1, total: unknown.length })
  }
  return { packsRead, unreadablePacks }
}

function idleWriter(): IndexWriter {
  return { written: [], add: async () => {}, flush: async () => {} }
}
