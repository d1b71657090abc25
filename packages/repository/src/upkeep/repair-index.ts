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
import { type BitSet, createBitSet } from '../index-memory/bit-set.ts'
import type { Vault } from '../vault.ts'
import { createBlobSet } from './blob-set.ts'
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
  const table = createPackRows()
  for await (const batch of vault.store.list('pack')) {
    abort()
    for (const { name, bytes } of batch) table.lengths[table.rowOf(packId(name))] = bytes
  }
  const survey = await surveyIndex(vault, table, { abort, onProgress: options.onProgress })
  const isTrusted = options.readAllPacks === true ? () => false : survey.isSound
  const writer = options.dryRun === true ? idleWriter() : createIndexWriter(vault)
  const covered = createBitSet()
  const replaced: string[] = []
  for (const file of survey.files) {
    abort()
    const packs = (await readIndexFile(vault, file)).map((pack) => ({ pack, row: table.rowOf(pack.id) }))
    if (packs.length > 0 && packs.every(({ row }) => isTrusted(row) && !covered.has(row))) {
      for (const { row } of packs) covered.add(row)
      continue
    }
    replaced.push(file)
    for (const { pack, row } of packs) if (isTrusted(row) && covered.add(row)) await writer.add(pack)
  }
  const { packsRead, unreadablePacks } = await addFromHeaders(vault, { table, covered, writer, abort, options })
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
    missingPacks: survey.missing,
    packsRead,
    unreadablePacks,
    packs: covered.size,
    filesWritten: writer.written.length,
    filesRemoved: old.length,
  }
}

/** Numbers for packs, and what is known of each: a map of their names would take four times as much. */
interface PackRows {
  readonly rows: number
  /** The pack's row, made where it is new. */
  rowOf(id: PackId): number
  idOf(row: number): PackId
  /** In the store; undefined where it is not there. */
  readonly lengths: (number | undefined)[]
}

function createPackRows(): PackRows {
  const ids = createBlobSet()
  return {
    lengths: [],
    get rows() {
      return ids.size
    },
    rowOf(id) {
      ids.add(id, 'data')
      return ids.rowOf(id, 'data')
    },
    idOf: (row) => packId(ids.at(row).id),
  }
}

interface IndexSurvey {
  readonly files: readonly string[]
  readonly damaged: readonly string[]
  /** Whether all index files that name the pack say the same, which fits the length of the pack. */
  readonly isSound: (row: number) => boolean
  readonly missing: readonly PackId[]
}

async function surveyIndex(
  vault: Vault,
  table: PackRows,
  { abort, onProgress }: { readonly abort: () => void; readonly onProgress: RepairIndexOptions['onProgress'] },
): Promise<IndexSurvey> {
  const files: string[] = []
  const damaged: string[] = []
  const missing = createBitSet()
  const missingPacks: PackId[] = []
  // Filled, for numbers come in any order: an array with large holes is a map.
  const said = new Array<number>(table.rows).fill(0)
  const named = createBitSet()
  const wrong = createBitSet()
  const names = await listIndexFiles(vault)
  for (const [at, name] of names.entries()) {
    abort()
    const packs = await readIfSound(vault, name)
    if (packs === undefined) damaged.push(name)
    else files.push(name)
    for (const pack of packs ?? []) {
      const row = table.rowOf(pack.id)
      const bytes = table.lengths[row]
      if (bytes !== undefined && bytes !== packBytes(pack.entries)) wrong.add(row)
      if (bytes === undefined && missing.add(row)) missingPacks.push(pack.id)
      const summary = summaryOf(pack)
      if (!named.add(row) && said[row] !== summary) wrong.add(row)
      said[row] = summary
    }
    onProgress?.({ stage: 'indexes', done: at + 1, total: names.length })
  }
  const isSound = (row: number) => named.has(row) && !missing.has(row) && !wrong.has(row)
  return { files, damaged, isSound, missing: missingPacks }
}

/** Equal for equal entries. What is compared was authenticated before: no adversary chooses it. */
function summaryOf({ entries }: IndexedPack): number {
  let ids = 0
  for (const { id, offset } of entries) ids = (Math.imul(ids, 31) + Number.parseInt(id.slice(0, 8), 16) + offset) >>> 0
  return entries.length * 2 ** 32 + ids
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
  readonly table: PackRows
  readonly covered: BitSet
  readonly writer: IndexWriter
  readonly abort: () => void
  readonly options: RepairIndexOptions
}

async function addFromHeaders(
  vault: Vault,
  { table, covered, writer, abort, options }: Reading,
): Promise<Pick<RepairIndexReport, 'packsRead' | 'unreadablePacks'>> {
  const packsRead: PackId[] = []
  const unreadablePacks: { id: PackId; failure: Failure }[] = []
  const unknown: number[] = []
  for (let row = 0; row < table.rows; row += 1) {
    if (table.lengths[row] !== undefined && !covered.has(row)) unknown.push(row)
  }
  for (const [at, row] of unknown.entries()) {
    abort()
    const [id, bytes = 0] = [table.idOf(row), table.lengths[row]]
    try {
      const entries = await readAgain(() => readPackHeader(vault, id, bytes))
      await writer.add({ id, entries })
      covered.add(row)
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
