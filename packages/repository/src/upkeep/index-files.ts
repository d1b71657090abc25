/**
 * Owns rewriting index files: new ones for some packs, in the place of old ones.
 *
 * Invariants: 1. an old index file is deleted only after everything that it says and that still holds is in durable
 * ones. 2. Index files are read one at a time: their sum need not fit into memory.
 */
import { isFailure } from '@stillpoint/core/kernel'
import { listAll } from '../blob/blob-store.ts'
import { confirmDocument } from '../confirm-stored.ts'
import type { PackId } from '../format/ids.ts'
import {
  decodeIndexBytes,
  encodeIndex,
  type IndexedPack,
  indexBlobsMax,
  readIndexColumns,
} from '../format/index-file.ts'
import { readDocumentBytes, readObject, type Vault, writeDocument } from '../vault.ts'
import { createBlobSet } from './blob-set.ts'

export async function listIndexFiles(vault: Vault): Promise<readonly string[]> {
  return (await listAll(vault.store, 'index')).map(({ name }) => name).sort()
}

/** @throws Failure `object_damaged`, `object_missing` */
export function readIndexFile(vault: Vault, name: string): Promise<readonly IndexedPack[]> {
  return readDocumentBytes(vault, { kind: 'index', name }, decodeIndexBytes)
}

/**
 * Finds that an index file lies in the repository as the index was made of it: its name is the hash of its bytes.
 * @throws Failure `object_damaged`, `object_missing`
 */
export async function verifyIndexFile(vault: Vault, name: string): Promise<void> {
  const { files, passedOver } = vault.index
  if (files.has(name) && !passedOver.has(name)) await readObject(vault.store, { kind: 'index', name })
  else await readDocumentBytes(vault, { kind: 'index', name }, readIndexColumns)
}

export interface IndexWriter {
  add(pack: IndexedPack): Promise<void>
  /** Everything added is durable, and was found there, when it resolves. */
  flush(): Promise<void>
  /** Names of the files written so far. */
  readonly written: readonly string[]
}

/** Writes packs into index files of a bounded size. */
export function createIndexWriter(vault: Vault): IndexWriter {
  let packs: IndexedPack[] = []
  let blobs = 0
  const written: string[] = []
  async function flush(): Promise<void> {
    if (packs.length === 0) return
    const full = packs
    packs = []
    blobs = 0
    const name = await writeDocument(vault, 'index', encodeIndex(full))
    await confirmDocument(vault, { kind: 'index', name })
    written.push(name)
  }
  return {
    written,
    flush,
    async add(pack) {
      if (blobs > 0 && blobs + pack.entries.length > indexBlobsMax) await flush()
      packs.push(pack)
      blobs += pack.entries.length
    },
  }
}

export interface IndexRewrite {
  /** The files that are replaced. */
  readonly files: readonly string[]
  /** Packs that no index names afterwards. */
  readonly isDropped: (pack: PackId) => boolean
  readonly abort: () => void
}

/** Replaces index files by ones without some packs. */
export async function rewriteIndexFiles(vault: Vault, { files, isDropped, abort }: IndexRewrite): Promise<void> {
  const writer = createIndexWriter(vault)
  const kept = createBlobSet()
  for (const name of files) {
    abort()
    for (const pack of await readIndexFile(vault, name)) {
      if (isDropped(pack.id) || !kept.add(pack.id, 'data')) continue
      await writer.add(pack)
    }
  }
  await writer.flush()
  const fresh = new Set(writer.written)
  for (const name of files) {
    abort()
    if (!fresh.has(name)) await deleteIfThere(vault, 'index', name)
  }
}

/** A file that is gone already is what was wanted. */
export async function deleteIfThere(vault: Vault, kind: 'index' | 'pack' | 'snapshot', name: string): Promise<void> {
  try {
    await vault.store.delete({ kind, name })
  } catch (error) {
    if (!isFailure(error, 'object_missing')) throw error
  }
}
