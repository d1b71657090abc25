/**
 * Owns walking everything that snapshots reach, each tree once.
 * What a tree contains is not trusted: a tree that contains itself cannot exist (its id is its hash), and depth is not
 * recursion here.
 *
 * Invariant: memory is bounded by the width of a path and by the trees that are read at the same time, of which there are
 * few, and of large ones only one.
 */
import { Failure, isFailure, type TreeId } from '@stillpoint/core/kernel'
import { eachOf } from '../parallel.ts'
import { createTurns } from '../turns.ts'
import type { Vault } from '../vault.ts'
import { createReachedBlobs, type ReachedBlobs } from './reached-blobs.ts'
import { type ContentDigits, scanTree } from './scan-tree.ts'

const treesInFlightMax = 8
/** Of documents that are read at the same time: one of a million files has 350 MB. */
const bytesInFlightMax = 8 << 20
const turnMs = 5

export interface TreeRoot {
  readonly tree: TreeId
  /** How the place is named in messages, ending with "/". */
  readonly path: string
}

/**
 * Does `visit` with all that waits, and with what it adds meanwhile, some at a time: those that were added last first, so
 * that what waits is bounded by the width of a path and not of the whole repository.
 */
export async function eachWaiting<T extends { readonly tree: TreeId }>(
  vault: Vault,
  waiting: T[],
  visit: (at: T) => Promise<void>,
): Promise<void> {
  const turns = createTurns(vault.clock, turnMs)
  while (waiting.length > 0) {
    await eachOf(takeSome(vault, waiting), treesInFlightMax, async (at) => {
      // Trees that are in memory keep nothing waiting: without a pause, neither Ctrl-C nor another thread would be heard.
      if (turns.isDue) await turns.give()
      await visit(at)
    })
  }
}

function takeSome<T extends { readonly tree: TreeId }>(vault: Vault, waiting: T[]): T[] {
  let bytes = 0
  let count = 0
  while (count < Math.min(treesInFlightMax, waiting.length)) {
    const tree = waiting[waiting.length - 1 - count]?.tree
    bytes += tree === undefined ? 0 : (vault.index.blobs.plainBytes(tree, 'tree') ?? 0)
    if (count > 0 && bytes > bytesInFlightMax) break
    count += 1
  }
  return waiting.splice(-count)
}

/** What is met on a walk. */
export interface WalkSink {
  /** Whether to look into it. */
  addTree(tree: TreeId): boolean
  addContent(content: ContentDigits): void
}

export interface WalkOptions {
  readonly abort: () => void
  readonly onProgress?: (trees: number) => void
}

/**
 * All trees that the roots reach and the sink lets in.
 * @throws Failure `object_missing`, `object_damaged`, with the path of the tree
 */
export async function walkTrees(
  vault: Vault,
  roots: readonly TreeRoot[],
  { sink, abort, onProgress }: WalkOptions & { readonly sink: WalkSink },
): Promise<void> {
  const waiting: TreeRoot[] = roots.filter(({ tree }) => sink.addTree(tree)).reverse()
  let trees = 0
  await eachWaiting(vault, waiting, async ({ tree, path }) => {
    abort()
    await naming(path, () =>
      scanTree(vault, tree, (node) => {
        if (node.type === 'file') sink.addContent(node.content)
        if (node.type !== 'dir' || !sink.addTree(node.subtree)) return
        waiting.push({ tree: node.subtree, path: `${path}${node.name}/` })
      }),
    )
    trees += 1
    onProgress?.(trees)
  })
}

/** All blobs that the roots reach. @throws as `walkTrees` */
export async function reachableBlobs(
  vault: Vault,
  roots: readonly TreeRoot[],
  options: WalkOptions,
): Promise<ReachedBlobs> {
  const reached = createReachedBlobs(vault.index.blobs)
  const sink: WalkSink = {
    addTree: (tree) => reached.add(tree, 'tree'),
    addContent(content) {
      for (let at = 0; at < content.count; at += 1) reached.addDigits(content.digits(at))
    },
  }
  await walkTrees(vault, roots, { ...options, sink })
  return reached
}

async function naming(path: string, read: () => Promise<void>): Promise<void> {
  try {
    await read()
  } catch (error) {
    if (!isFailure(error, 'object_missing') && !isFailure(error, 'object_damaged')) throw error
    const { code, message, hint } = error
    throw new Failure({
      code,
      message: `${path}: ${message}`,
      ...(hint === undefined ? {} : { hint }),
      cause: error,
    })
  }
}
