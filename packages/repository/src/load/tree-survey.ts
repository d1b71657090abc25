/**
 * Owns looking through a whole tree before anything of it is restored: how much there is, and that no name in it can
 * lead out of the target. What a tree contains was decided by whoever had the keys once, and is not trusted.
 */
import { Failure, isFailure, type TreeId } from '@stillpoint/core/kernel'
import { bytesFromName } from '../format/node-name.ts'
import { type TreeNode, unsafeName } from '../format/tree.ts'
import type { Vault } from '../vault.ts'
import { readTree } from './blob-reader.ts'

export interface TreeSurvey {
  readonly files: number
  readonly bytes: number
  /** Directories and all others included. */
  readonly entries: number
}

/** Deeper paths than any system takes (4096 bytes). */
export const depthMax = 2048
/** Inodes have 32 bits on most file systems. */
const entriesMax = 2 ** 36

export interface SurveyOptions {
  readonly signal: AbortSignal | undefined
  /** Trees that cannot be read count for nothing: they are reported when their turn comes. */
  readonly passOverDamage: boolean
}

/** @throws Failure `tree_unsafe`, `object_missing`, `object_damaged` */
export async function surveyTree(vault: Vault, root: TreeId, options: SurveyOptions): Promise<TreeSurvey> {
  const known = new Map<TreeId, TreeSurvey>()
  async function readable(tree: TreeId): Promise<readonly TreeNode[]> {
    try {
      return await readTree(vault, tree)
    } catch (error) {
      const damaged = isFailure(error, 'object_damaged') || isFailure(error, 'object_missing')
      if (damaged && options.passOverDamage) return []
      throw error
    }
  }

  async function survey(tree: TreeId, depth: number): Promise<TreeSurvey> {
    options.signal?.throwIfAborted()
    const found = known.get(tree)
    if (found !== undefined) return found
    if (depth > depthMax) throw unsafe(tree, `directories nested deeper than ${depthMax}`)
    const nodes = await readable(tree)
    requireSafeNames(tree, nodes)
    let entries = nodes.length
    let files = 0
    let bytes = 0
    for (const node of nodes) {
      if (node.type === 'file') {
        files += 1
        bytes += node.bytes
      }
      if (node.type !== 'dir') continue
      const below = await survey(node.subtree, depth + 1)
      entries += below.entries
      files += below.files
      bytes += below.bytes
    }
    // Each level twice in the one above: few trees, and more paths than anybody can make.
    if (entries > entriesMax) throw unsafe(tree, `${entries} entries, more than any file system holds`)
    known.set(tree, { entries, files, bytes })
    return { entries, files, bytes }
  }
  return survey(root, 0)
}

/** @throws Failure `tree_unsafe` */
export function requireSafeNames(tree: TreeId, nodes: readonly TreeNode[]): void {
  const seen = new Set<string>()
  for (const node of nodes) {
    const reason = unsafeName(node.name)
    if (reason !== undefined) throw unsafe(tree, reason)
    // By bytes: two strings may stand for the same.
    const key = bytesFromName(node.name).toString('latin1')
    if (seen.has(key)) throw unsafe(tree, `two entries named ${JSON.stringify(node.name)}`)
    seen.add(key)
  }
}

export function unsafe(tree: TreeId, reason: string): Failure {
  return new Failure({
    code: 'tree_unsafe',
    message: `tree ${tree} is not safe to restore: it has ${reason}`,
    hint: 'It was not written by a sound program. List it, and restore what is sound of it by path.',
  })
}
