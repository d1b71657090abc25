/**
 * Owns checking a repository: that all that is referred to is there, and with `readData` that every byte is what it was.
 * Does not own repairing. A snapshot that was deleted as a whole leaves no trace and cannot be noticed.
 *
 * Invariant: a problem names the object's kind, id and path. A check that finds nothing has looked at everything that
 * the report counts.
 */
import { Failure, isFailure, type TreeId } from '@stillpoint/core/kernel'
import type { ObjectName } from '../blob/blob-store.ts'
import { errnoOf } from '../blob/storage-failure.ts'
import { type BlobId, type PackId, packId } from '../format/ids.ts'
import { decodeIndex } from '../format/index-file.ts'
import { blobPlainBytes } from '../format/pack.ts'
import type { TreeNode } from '../format/tree.ts'
import { readTree } from '../load/blob-reader.ts'
import { listSnapshots } from '../load/snapshots.ts'
import { requireSafeNames } from '../load/tree-survey.ts'
import { openBlob } from '../save/blob-coder.ts'
import { readPackEntries } from '../save/pack-builder.ts'
import { namingDamage, readDocument, readObject, type Vault } from '../vault.ts'
import { type DataSubset, packsToRead } from './data-subset.ts'

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
  const read = packsToRead(packs, options, vault.random)
  const bytesRead = await checkData(check, read)
  return {
    problems: check.problems,
    unreferencedPacks,
    snapshots: snapshots.length,
    trees,
    packs: packs.length,
    packsRead: read.length,
    bytesRead,
  }
}

/** Runs a part; what it finds wrong with objects is a problem, other errors go up. */
async function noting(check: Check, part: () => Promise<void>, path?: string): Promise<void> {
  check.abort()
  try {
    await part()
  } catch (error) {
    const unreadable = isFailure(error, 'storage_failed') || isFailure(error, 'storage_denied')
    if (unreadable && errnoOf(error.cause) === undefined) throw error
    if (!unreadable && !isFailure(error, 'object_damaged') && !isFailure(error, 'object_missing')) {
      if (!isFailure(error, 'tree_unsafe')) throw error
    }
    const { code, message, hint } = error
    const where = path === undefined ? message : `${path}: ${message}`
    check.problems.push(new Failure({ code, message: where, ...(hint === undefined ? {} : { hint }), cause: error }))
  }
}

/** Key files are in the clear, so their names are all that tells whether those of other passwords are whole. */
async function checkNames(check: Check): Promise<void> {
  const keys = await check.vault.store.list('key')
  for (const [done, { name }] of keys.entries()) {
    await noting(check, async () => {
      await readObject(check.vault.store, { kind: 'key', name })
    })
    check.progress({ stage: 'keys', done: done + 1, total: keys.length })
  }
}

async function checkIndexes(check: Check): Promise<void> {
  const indexes = await check.vault.store.list('index')
  const before = check.problems.length
  for (const [done, { name }] of indexes.entries()) {
    await noting(check, async () => {
      await readDocument(check.vault, { kind: 'index', name }, decodeIndex)
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

async function checkTrees(
  check: Check,
  roots: readonly { readonly tree: TreeId; readonly path: string }[],
): Promise<number> {
  const seen = new Set<TreeId>()
  const open = [...roots]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { tree, path } = next
    if (seen.has(tree)) continue
    seen.add(tree)
    await noting(
      check,
      async () => {
        const nodes = await readTree(check.vault, tree)
        requireSafeNames(tree, nodes)
        for (const node of nodes) {
          if (node.type === 'dir') open.push({ tree: node.subtree, path: `${path}${node.name}/` })
          if (node.type === 'file') checkContent(check, node, `${path}${node.name}`)
        }
      },
      path,
    )
    check.progress({ stage: 'trees', done: seen.size })
  }
  return seen.size
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
  const [place] = vault.index.blobs.places(id, 'data')
  return place === undefined ? undefined : blobPlainBytes(place)
}

/** Reads every pack, also those in no index. Returns the bytes read. */
async function checkData(check: Check, packs: readonly string[]): Promise<number> {
  let bytesRead = 0
  for (const [done, name] of packs.entries()) {
    await noting(check, async () => {
      bytesRead += await checkPack(check, packId(name))
    })
    check.progress({ stage: 'data', done: done + 1, total: packs.length })
  }
  return bytesRead
}

async function checkPack(check: Check, name: PackId): Promise<number> {
  const { store, keys, index } = check.vault
  const object: ObjectName = { kind: 'pack', name }
  const bytes = await readObject(store, object)
  await namingDamage(store, object, async () => {
    const entries = readPackEntries(bytes, keys)
    for (const entry of entries) {
      check.abort()
      await openBlob(entry, bytes.subarray(entry.offset, entry.offset + entry.length), keys)
    }
    if (!index.blobs.hasPack(name) || index.blobs.agrees({ id: name, entries })) return
    const message = `pack ${name} at ${store.locate(object)} and the index do not agree on what is in it`
    check.problems.push(new Failure({ code: 'object_damaged', message }))
  })
  return bytes.length
}
