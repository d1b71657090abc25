/**
 * Owns salvaging what is sound in damaged packs: it moves into new packs, and the damaged ones go.
 *
 * Invariants: 1. what is salvaged is durable and in an index before the index forgets the damaged pack, and that is
 * durable before the pack is deleted. 2. Every blob that moves was verified against its id.
 */
import { Failure, isFailure } from '@stillpoint/core/kernel'
import { DamageError } from '../format/damage.ts'
import { isId, type PackId, packId, sha256 } from '../format/ids.ts'
import type { PackEntry } from '../format/pack.ts'
import { openBlob } from '../save/blob-coder.ts'
import { readPackEntries } from '../save/pack-builder.ts'
import type { Vault } from '../vault.ts'
import { deleteIfThere, listIndexFiles, readIndexFile, rewriteIndexFiles } from './index-files.ts'
import type { OpenedBlob } from './pack-stream.ts'
import { createRepacker, type Repacker } from './repacker.ts'

export interface RepairPacksOptions {
  readonly signal?: AbortSignal
  /** Is given each damaged pack before it is deleted, to be kept elsewhere. */
  readonly saveCopy?: (pack: PackId, bytes: Uint8Array) => Promise<void>
}

export interface RepairedPack {
  readonly id: PackId
  readonly salvagedBlobs: number
  /** Blobs that were in the pack, as far as the index or its header tells, and could not be read. */
  readonly lostBlobs: number
  /** The pack was not there: only the index knew it. */
  readonly wasMissing: boolean
}

/** @throws Failure `pack_absent`, `object_damaged` (a damaged index: repair that first), … */
export async function repairPacks(
  vault: Vault,
  ids: readonly string[],
  { lockSignal, options }: { readonly lockSignal: AbortSignal; readonly options: RepairPacksOptions },
): Promise<readonly RepairedPack[]> {
  const abort = () => {
    options.signal?.throwIfAborted()
    lockSignal.throwIfAborted()
  }
  const wanted = new Set(ids.map(requireId))
  const { entriesOf, files } = await findEntries(vault, wanted, abort)
  const repacker = createRepacker(vault)
  const repaired: RepairedPack[] = []
  for (const id of wanted) {
    abort()
    const reads = await readTwice(vault, id)
    const known = entriesOf.get(id)
    const [first] = reads
    if (first === undefined && known === undefined) throw absent(id)
    if (first !== undefined) await options.saveCopy?.(id, first)
    repaired.push(await salvage(vault, { id, reads, known: known ?? [], repacker }))
  }
  await repacker.finish()
  await rewriteIndexFiles(vault, { files, isDropped: (id) => wanted.has(id), abort })
  for (const id of wanted) await deleteIfThere(vault, 'pack', id)
  await vault.index.refresh()
  return repaired
}

function requireId(id: string): PackId {
  if (isId(id)) return packId(id)
  throw absent(id)
}

function absent(id: string): Failure {
  return new Failure({
    code: 'pack_absent',
    message: `there is no pack ${JSON.stringify(id.slice(0, 80))}`,
    hint: 'Give the full ids of packs, 64 digits each, as "check --read-data" names them.',
  })
}

async function findEntries(vault: Vault, wanted: ReadonlySet<PackId>, abort: () => void) {
  const entriesOf = new Map<PackId, readonly PackEntry[]>()
  const files: string[] = []
  for (const file of await listIndexFiles(vault)) {
    abort()
    const packs = (await readIndexFile(vault, file)).filter(({ id }) => wanted.has(id))
    if (packs.length > 0) files.push(file)
    for (const { id, entries } of packs) entriesOf.set(id, [...(entriesOf.get(id) ?? []), ...entries])
  }
  return { entriesOf, files }
}

/** What is there, and once more where that is not what its name says: a read may go wrong on its way. */
async function readTwice(vault: Vault, id: PackId): Promise<readonly Buffer[]> {
  const reads: Buffer[] = []
  while (reads.length < 2) {
    const bytes = await readIfThere(vault, id)
    if (bytes === undefined) return reads
    reads.push(bytes)
    if (sha256(bytes) === id) return [bytes]
  }
  return reads
}

async function readIfThere(vault: Vault, id: PackId): Promise<Buffer | undefined> {
  try {
    return await vault.store.get({ kind: 'pack', name: id })
  } catch (error) {
    if (isFailure(error, 'object_missing')) return undefined
    throw error
  }
}

interface Salvage {
  readonly id: PackId
  readonly reads: readonly Buffer[]
  readonly known: readonly PackEntry[]
  readonly repacker: Repacker
}

async function salvage(vault: Vault, { id, reads, known, repacker }: Salvage): Promise<RepairedPack> {
  const inHeaders = reads.flatMap((bytes) => headerEntries(vault, bytes))
  const entries = new Map([...known, ...inHeaders].map((entry) => [entryKey(entry), entry]))
  const salvaged = new Set<string>()
  const lost = new Set<string>()
  for (const entry of entries.values()) {
    const key = `${entry.type} ${entry.id}`
    if (salvaged.has(key)) continue
    const opened = await openAny(vault, entry, reads)
    if (opened === undefined) lost.add(key)
    else {
      await repacker.add(opened)
      salvaged.add(key)
    }
  }
  const lostBlobs = [...lost].filter((key) => !salvaged.has(key)).length
  return { id, salvagedBlobs: salvaged.size, lostBlobs, wasMissing: reads.length === 0 }
}

/** The blob as it is in the first read in which it is sound. */
async function openAny(vault: Vault, entry: PackEntry, reads: readonly Buffer[]): Promise<OpenedBlob | undefined> {
  for (const bytes of reads) {
    const sealed = bytes.subarray(entry.offset, entry.offset + entry.length)
    try {
      return { entry, sealed, plaintext: await openBlob(entry, sealed, vault.keys) }
    } catch (error) {
      if (!(error instanceof DamageError)) throw error
    }
  }
  return undefined
}

function entryKey({ id, type, offset, length }: PackEntry): string {
  return `${type} ${id} ${offset} ${length}`
}

/** What the pack itself says is in it; nothing where its header is damaged. */
function headerEntries(vault: Vault, bytes: Buffer): readonly PackEntry[] {
  try {
    return readPackEntries(bytes, vault.keys)
  } catch (error) {
    if (error instanceof DamageError) return []
    throw error
  }
}
