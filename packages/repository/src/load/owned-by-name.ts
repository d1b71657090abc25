/** Owns who a restored entry belongs to where that goes by the names that the snapshot has, and not by its numbers. */
import type { AccountNumbers } from '../account-names.ts'
import type { TreeNode } from '../format/tree.ts'

/**
 * The node with the numbers that its owner and its group have here, each for itself; what has no name, or one that is not
 * known, keeps its number. The node itself where both stay.
 */
export function ownedByName<N extends TreeNode>(node: N, { users, groups }: AccountNumbers): N {
  const uid = users.get(node.user) ?? node.uid
  const gid = groups.get(node.group) ?? node.gid
  return uid === node.uid && gid === node.gid ? node : { ...node, uid, gid }
}
