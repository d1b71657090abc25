/** Owns saving an entry of a directory that is not like most of them, one at a time: large files, links, devices. */
import { type BigIntStats, constants } from 'node:fs'
import { type FileHandle, open, readlink } from 'node:fs/promises'
import { basename } from 'node:path'
import type { AnchoredDirectory } from '../anchored-directory.ts'
import type { Chunking } from '../chunk/cutter.ts'
import { chunkingOf, pageHeadBytes } from '../chunk/page-structure.ts'
import { readAttributes } from '../extended-attributes.ts'
import { nameFromBytes } from '../format/node-name.ts'
import type { FileNode, NodeContent, NodeMetadata, TreeNode } from '../format/tree.ts'
import type { Excluder } from '../selection/excluder.ts'
import { fingerprintOf, metadataOf, typeOf } from './file-status.ts'
import { compareWithManifest, statusOf } from './manifest.ts'
import { unchangedSince } from './parent-tree.ts'
import type { SavedContent } from './save-content.ts'
import type { Walk } from './walk.ts'

interface EntryToSave {
  readonly name: string
  readonly prefix: string
  readonly parent: TreeNode | undefined
  /** Whether it is left out by its status. */
  readonly isOut: ReturnType<Excluder['inFolder']>
}

export async function saveEntry(
  walk: Walk,
  directory: Pick<AnchoredDirectory, 'child'>,
  { name, prefix, parent, isOut }: EntryToSave,
): Promise<TreeNode | 'folder' | undefined> {
  const path = `${prefix}${name}`
  const status = await statusOf(directory, name)
  walk.unseen.delete(path)
  if (status === undefined) {
    walk.changed.add(path)
    return undefined
  }
  if (isOut?.(name, status) === true) return undefined
  compareWithManifest(walk, path, fingerprintOf(status))
  const type = typeOf(status)
  if (type === 'dir') return 'folder'
  if (type === 'file') return saveFile(walk, directory, { name, path }, parent)
  const content = await specialContent(directory, name, type, status.rdev)
  if (content !== undefined) return { ...metadataFor(walk, { path, status, at: directory.child(name) }), ...content }
  walk.skipped.push(path)
  return undefined
}

interface SeenEntry {
  readonly path: string
  readonly status: BigIntStats
  /** Where the operating system finds it. */
  readonly at: Buffer
}

function metadataFor({ accounts, options, errors }: Walk, { path, status, at }: SeenEntry): NodeMetadata {
  const { attributes: extendedAttributes, failure } = readAttributes(at)
  if (failure !== undefined) errors.push({ path, failure })
  const { withAtime = false } = options
  return { ...metadataOf(basename(path), status, { accounts, withAtime }), extendedAttributes }
}

async function specialContent(
  directory: Pick<AnchoredDirectory, 'child'>,
  name: string,
  type: Exclude<TreeNode['type'], 'file' | 'dir'>,
  device: bigint,
): Promise<NodeContent | undefined> {
  switch (type) {
    case 'symlink':
      return { type, target: nameFromBytes(await readlink(directory.child(name), { encoding: 'buffer' })) }
    case 'dev':
    case 'chardev':
      return { type, device }
    case 'fifo':
      return { type }
    case 'socket':
    case 'irregular':
      return undefined
  }
}

async function saveFile(
  walk: Walk,
  directory: Pick<AnchoredDirectory, 'child'>,
  at: { readonly name: string; readonly path: string },
  parent: TreeNode | undefined,
): Promise<TreeNode | undefined> {
  const { path } = at
  // Non-blocking: what was a file when we looked may be a fifo without a writer now.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
  const handle = await open(directory.child(at.name), flags)
  try {
    const before = await handle.stat({ bigint: true })
    if (!before.isFile()) {
      walk.changed.add(path)
      return undefined
    }
    const metadata = metadataFor(walk, { path, status: before, at: directory.child(at.name) })
    const unread: FileNode = { ...metadata, type: 'file', bytes: Number(before.size), content: [] }
    const known = knownContent(walk, unread, parent)
    if (known !== undefined) return counted(walk, path, { ...unread, content: known.content }, known.bytes)
    const counter = { bytes: 0 }
    const saved = await walk.context.content.saveFile(handle.fd, {
      bytes: unread.bytes,
      ...(walk.options.signal === undefined ? {} : { signal: walk.options.signal }),
      chunking: walk.options.chunking?.(path, unread.bytes) ?? (await chunkingByHead(handle, unread.bytes)),
      onProgress: ({ bytes }) => {
        walk.bytes += bytes - counter.bytes
        counter.bytes = bytes
        walk.options.onProgress?.({ files: walk.files, bytes: walk.bytes, path })
      },
    })
    const after = await handle.stat({ bigint: true })
    const ctimeTells = walk.options.ctimeTells ?? true
    if (fingerprintOf(before, ctimeTells) !== fingerprintOf(after, ctimeTells) || saved.bytes !== Number(after.size))
      walk.changed.add(path)
    else if (before.nlink > 1n) walk.linked.set(linkKey(unread), saved)
    return counted(walk, path, { ...unread, bytes: saved.bytes, content: saved.content }, 0)
  } finally {
    await handle.close()
  }
}

async function chunkingByHead(handle: FileHandle, bytes: number): Promise<Chunking> {
  const head = Buffer.alloc(pageHeadBytes)
  const { bytesRead } = await handle.read(head, 0, head.length, 0)
  return chunkingOf(head.subarray(0, bytesRead), bytes)
}

function counted(walk: Walk, path: string, node: FileNode, bytes: number): FileNode {
  walk.files += 1
  walk.bytes += bytes
  walk.options.onProgress?.({ files: walk.files, bytes: walk.bytes, path })
  return node
}

const linkKey = (node: FileNode) => `${node.deviceId}:${node.inode}:${node.ctime}`

/** Content that need not be read: of another name of the same file, or of the unchanged file in the parent. */
function knownContent(walk: Walk, node: FileNode, parent: TreeNode | undefined): SavedContent | undefined {
  const linked = node.links > 1n ? walk.linked.get(linkKey(node)) : undefined
  if (linked !== undefined) return linked
  if (parent?.type !== 'file') return undefined
  const { parentTime, ignoreCtime = false, ignoreInode = false } = walk.options
  const content = unchangedSince({ isEqual: false, node: parent }, node, { parentTime, ignoreCtime, ignoreInode })
  if (content === undefined) return undefined
  if (!parent.content.every((id) => walk.context.sink.has(id, 'data'))) return undefined
  return { content: parent.content, bytes: node.bytes }
}
