/** Owns sending many encoded trees to another thread, in one piece of memory: a message takes as long for ten small buffers. */
import type { TreeId } from '@stillpoint/core/kernel'
import { copyBytes } from '../format/copy-bytes.ts'
import { idsIn } from '../format/ids.ts'

export interface EncodedTree {
  readonly id: TreeId
  readonly plaintext: Uint8Array
}

export interface TreeBundle {
  /** One after the other. */
  readonly ids: string
  /** Where each ends, the next begins there. */
  readonly ends: Float64Array
  readonly bytes: Uint8Array
}

/** `newMemory`: shared or not. */
export function bundleTrees(
  trees: readonly EncodedTree[],
  newMemory: (bytes: number) => Uint8Array = (bytes) => new Uint8Array(bytes),
): TreeBundle {
  const ends = new Float64Array(trees.length)
  let end = 0
  trees.forEach(({ plaintext }, at) => {
    end += plaintext.length
    ends[at] = end
  })
  const bytes = newMemory(end)
  for (const [at, { plaintext }] of trees.entries()) copyBytes(plaintext, bytes, (ends[at] ?? 0) - plaintext.length)
  return { ids: trees.map(({ id }) => id).join(''), ends, bytes }
}

/** The trees, in the memory of the bundle. */
export function treesIn({ ids, ends, bytes }: TreeBundle): readonly EncodedTree[] {
  return idsIn(ids).map((id, at) => ({
    id: id as TreeId,
    plaintext: bytes.subarray(ends[at - 1] ?? 0, ends[at]),
  }))
}
