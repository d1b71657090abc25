/**
 * Owns what must still be readable of a damaged repository: a second, dumb implementation, which compares stored bytes
 * with those of the sound repository instead of decrypting anything.
 */
import { isFailure, type TreeId } from '@stillpoint/core/kernel'
import { listAll } from '../blob/blob-store.ts'
import type { MemoryObjects } from '../blob/memory-store.ts'
import { sha256 } from '../format/ids.ts'
import { decodeIndex, type IndexedPack } from '../format/index-file.ts'
import { readBlob, readTree } from '../load/blob-reader.ts'
import { listSnapshots } from '../load/snapshots.ts'
import type { Repository } from '../repository.ts'
import { readDocument, type Vault } from '../vault.ts'

/** What a reader gets: for each path of each snapshot the hash of what is there, or that it cannot be read. */
export type Readable = ReadonlyMap<string, string>
export const unreadable = 'unreadable'

interface ModelNode {
  readonly path: string
  readonly shown: string
  /** Blobs of which all are needed for the entry itself: its content, or its subtree. */
  readonly content: readonly string[]
  readonly subtree: string | undefined
}

export interface DamageModel {
  readonly sound: ReadonlyMap<string, Buffer>
  readonly snapshots: readonly { readonly id: string; readonly tree: string }[]
  readonly trees: ReadonlyMap<string, readonly ModelNode[]>
  readonly indexes: ReadonlyMap<string, readonly IndexedPack[]>
}

export async function modelOf(vault: Vault, objects: MemoryObjects): Promise<DamageModel> {
  const snapshots = (await listSnapshots(vault)).map(({ id, tree }) => ({ id, tree }))
  const trees = new Map<string, readonly ModelNode[]>()
  const open: TreeId[] = snapshots.map(({ tree }) => tree)
  for (let tree = open.pop(); tree !== undefined; tree = open.pop()) {
    if (trees.has(tree)) continue
    const nodes = await readTree(vault, tree)
    trees.set(tree, await Promise.all(nodes.map((node) => nodeOf(vault, node))))
    for (const node of nodes) if (node.type === 'dir') open.push(node.subtree)
  }
  const indexes = new Map<string, readonly IndexedPack[]>()
  for (const { name } of await listAll(vault.store, 'index')) {
    indexes.set(`index/${name}`, await readDocument(vault, { kind: 'index', name }, decodeIndex))
  }
  return { sound: new Map(objects), snapshots, trees, indexes }
}

type Node = Awaited<ReturnType<typeof readTree>>[number]

async function nodeOf(vault: Vault, node: Node): Promise<ModelNode> {
  const path = node.name
  if (node.type === 'dir') return { path, shown: 'dir', content: [], subtree: node.subtree }
  if (node.type !== 'file') return { path, shown: node.type, content: [], subtree: undefined }
  return { path, shown: await contentHash(vault, node.content), content: node.content, subtree: undefined }
}

async function contentHash(vault: Vault, content: readonly string[]): Promise<string> {
  const pieces = await Promise.all(content.map((id) => readBlob(vault, id, 'data')))
  return sha256(Buffer.concat(pieces))
}

/** What must be readable of these objects, and what must not. */
export function expectedOf(model: DamageModel, objects: MemoryObjects): Readable {
  const sameAt = (key: string, from = 0, to = Number.POSITIVE_INFINITY) => {
    const [before, now] = [model.sound.get(key), objects.get(key)]
    if (before === undefined || now === undefined) return false
    return before.subarray(from, to).equals(now.subarray(from, to))
  }
  const known = new Set<string>()
  for (const [key, packs] of model.indexes) {
    if (!sameAt(key) || model.sound.get(key)?.length !== objects.get(key)?.length) continue
    for (const { id: pack, entries } of packs) {
      for (const { id, type, offset, length } of entries) {
        if (sameAt(`pack/${pack}`, offset, offset + length)) known.add(`${type} ${id}`)
      }
    }
  }
  const expected = new Map<string, string>()
  for (const { id, tree } of model.snapshots) {
    if (!sameAt(`snapshot/${id}`)) continue
    const open = [{ tree, prefix: `${id}/` }]
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      const { prefix } = next
      expected.set(prefix, known.has(`tree ${next.tree}`) ? 'dir' : unreadable)
      if (!known.has(`tree ${next.tree}`)) continue
      for (const { path, shown, content, subtree } of model.trees.get(next.tree) ?? []) {
        if (subtree !== undefined) open.push({ tree: subtree, prefix: `${prefix}${path}/` })
        else expected.set(prefix + path, content.every((blob) => known.has(`data ${blob}`)) ? shown : unreadable)
      }
    }
  }
  return expected
}

/** What can be read. Anything that is thrown and is no `Failure` goes up. */
export async function readableOf(repository: Repository): Promise<Readable> {
  const found = new Map<string, string>()
  const trees = new Map<string, Promise<Awaited<ReturnType<Repository['readTree']>> | undefined>>()
  const contents = new Map<string, Promise<string>>()
  const treeOf = (tree: TreeId) => onceFor(trees, tree, () => repository.readTree(tree).catch(ifFailure(undefined)))
  const hashOf = (content: readonly string[], node: Parameters<Repository['readFile']>[0]) =>
    onceFor(contents, content.join(), () => hashOfFile(repository, node).catch(ifFailure(unreadable)))
  for (const { id, tree } of await repository.snapshots({ onDamaged: () => {} })) {
    const open = [{ tree, prefix: `${id}/` }]
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      const { prefix } = next
      const nodes = await treeOf(next.tree)
      found.set(prefix, nodes === undefined ? unreadable : 'dir')
      for (const node of nodes ?? []) {
        if (node.type === 'dir') open.push({ tree: node.subtree, prefix: `${prefix}${node.name}/` })
        else found.set(prefix + node.name, node.type === 'file' ? await hashOf(node.content, node) : node.type)
      }
    }
  }
  return found
}

function onceFor<T>(known: Map<string, Promise<T>>, key: string, read: () => Promise<T>): Promise<T> {
  const there = known.get(key) ?? read()
  known.set(key, there)
  return there
}

async function hashOfFile(repository: Repository, node: Parameters<Repository['readFile']>[0]): Promise<string> {
  const pieces: Uint8Array[] = []
  for await (const piece of repository.readFile(node)) pieces.push(piece)
  return sha256(Buffer.concat(pieces))
}

function ifFailure<T>(instead: T): (error: unknown) => T {
  return (error) => {
    if (!isFailure(error)) throw error
    return instead
  }
}
