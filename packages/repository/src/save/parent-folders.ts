/**
 * Owns reading trees of the parent for threads that go down into directories: those that they begin with, and what lies
 * below them as far as a task may come.
 */
import { Failure, type TreeId } from '@stillpoint/core/kernel'
import { DamageError } from '../format/damage.ts'
import { idBytes, treeId } from '../format/ids.ts'
import { readBlob } from '../load/blob-reader.ts'
import type { Vault } from '../vault.ts'
import { bundleTrees, type EncodedTree, type TreeBundle } from './tree-bundle.ts'

/** Of trees, with those that lie below: about what a task looks at. */
const bytesMax = 384 << 10

const subtreeField = Buffer.from('"subtree":"')
const idDigits = 2 * idBytes

/** In shared memory. */
export async function parentFolders(vault: Vault, roots: readonly TreeId[]): Promise<TreeBundle> {
  return bundleTrees(await readBelow(vault, roots, bytesMax), sharedMemory)
}

/** The tree in shared memory; undefined where it is damaged or gone. */
export async function parentFolder(vault: Vault, tree: TreeId): Promise<Uint8Array | undefined> {
  const [found] = await readBelow(vault, [tree], 0)
  return found === undefined ? undefined : bundleTrees([found], sharedMemory).bytes
}

const sharedMemory = (bytes: number) => new Uint8Array(new SharedArrayBuffer(bytes))

/** All of the roots, and in the order of a walk what lies below them. */
async function readBelow(vault: Vault, roots: readonly TreeId[], bytesMax: number): Promise<readonly EncodedTree[]> {
  const trees = new Map<string, EncodedTree>()
  const waiting = [...roots].reverse()
  let bytes = 0
  for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
    if (trees.has(id) || (bytes >= bytesMax && !roots.includes(id))) continue
    const plaintext = await readTree(vault, id)
    if (plaintext === undefined) continue
    trees.set(id, { id, plaintext })
    bytes += plaintext.length
    if (bytes < bytesMax) waiting.push(...subtreesIn(plaintext).reverse())
  }
  return [...trees.values()]
}

/** A parent only saves work: where it is damaged or gone, everything is read. */
async function readTree(vault: Vault, id: TreeId): Promise<Buffer | undefined> {
  try {
    return await readBlob(vault, id, 'tree')
  } catch (error) {
    if (error instanceof Failure) return undefined
    throw error
  }
}

/** Within a string of JSON the quotes of the field would be escaped. */
function subtreesIn(tree: Buffer): TreeId[] {
  const ids: TreeId[] = []
  for (let at = tree.indexOf(subtreeField); at >= 0; at = tree.indexOf(subtreeField, at)) {
    at += subtreeField.length
    try {
      ids.push(treeId(tree.toString('latin1', at, at + idDigits)))
    } catch (error) {
      if (!(error instanceof DamageError)) throw error // not as trees are written: it is not read in advance
    }
  }
  return ids
}
