/**
 * Owns what an archive of a directory takes from a tree: entries whose names lead nowhere else, and content that is as
 * long as the entry says. Does not own any format of archives (tar.ts, zip.ts).
 */
import { Failure, type TreeId } from '@stillpoint/core/kernel'
import type { FileNode, TreeNode } from '../format/tree.ts'
import { unsafeName } from '../format/tree.ts'
import { readFile } from '../load/read-file.ts'
import type { Vault } from '../vault.ts'
import { walkNodes } from './walk-nodes.ts'

export interface ArchiveEntry {
  readonly node: TreeNode
  /** Relative: nobody wants to unpack over the root of the file system. */
  readonly path: string
}

/** Each directory before what is in it. @throws Failure `tree_unsafe` (a name that leads elsewhere), … */
export async function* archiveEntries(
  vault: Vault,
  root: TreeId,
  signal: AbortSignal | undefined,
): AsyncGenerator<ArchiveEntry> {
  for await (const { node, path, parent } of walkNodes(vault, root, signal === undefined ? {} : { signal })) {
    const reason = unsafeName(node.name)
    // Whoever unpacks it may trust it.
    if (reason !== undefined) throw new Failure({ code: 'tree_unsafe', message: `tree ${parent} has ${reason}` })
    yield { node, path: path.slice(1) }
  }
}

/** Exactly as many bytes as the entry says. @throws Failure `object_damaged` where its content has others, … */
export async function* entryContent(
  vault: Vault,
  { node, path }: { readonly node: FileNode; readonly path: string },
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  let bytes = 0
  for await (const piece of readFile(vault, node, signal)) {
    bytes += piece.length
    // What follows the entry would be read as its content, or content as what follows.
    if (bytes > node.bytes) throw otherSize(node, path, 'more')
    yield piece
  }
  if (bytes < node.bytes) throw otherSize(node, path, `${bytes}`)
}

function otherSize({ bytes }: FileNode, path: string, found: string): Failure {
  return new Failure({
    code: 'object_damaged',
    message: `${JSON.stringify(`/${path}`)} should have ${bytes} bytes, but its content has ${found}`,
  })
}
