/** Owns finding an entry by its path below a tree. */
import { Failure, type TreeId } from '@stillpoint/core/kernel'
import type { TreeNode } from '../format/tree.ts'
import type { Vault } from '../vault.ts'
import { readTree } from './blob-reader.ts'

/** Components joined by "/"; symbolic links are not followed. @throws Failure `path_absent` */
export async function resolvePath(vault: Vault, tree: TreeId, path: string): Promise<TreeNode> {
  const components = path.split('/').filter((component) => component !== '')
  let node: TreeNode | undefined
  let at: TreeId | undefined = tree
  for (const component of components) {
    const nodes: readonly TreeNode[] = at === undefined ? [] : await readTree(vault, at)
    node = nodes.find((entry) => entry.name === component)
    if (node === undefined) {
      const message = `there is no ${JSON.stringify(path)} in tree ${tree}: ${JSON.stringify(component)} is not there`
      throw new Failure({ code: 'path_absent', message })
    }
    at = node.type === 'dir' ? node.subtree : undefined
  }
  if (node === undefined) throw new Failure({ code: 'path_absent', message: 'an empty path names no entry of a tree' })
  return node
}
