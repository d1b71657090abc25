/** Owns restoring one file: content, holes, further names of the same file. */
import { constants } from 'node:fs'
import { type FileHandle, link, lstat, open, unlink } from 'node:fs/promises'
import { Failure } from '@stillpoint/core/kernel'
import type { FileNode } from '../format/tree.ts'
import type { Restore } from './load-directory.ts'
import { applyMetadata, clearTheWay, type NodePlace } from './place-node.ts'
import { readFile } from './read-file.ts'

/** Where the first name of a file with several was restored. */
export interface LinkedFile {
  /** Components below the target. */
  readonly path: string
  readonly content: string
  readonly inode: bigint
  readonly device: bigint
}
export type LinkedFiles = Map<string, LinkedFile>

const createFlags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
/** Runs of zeros of this length become holes. */
const holeBytes = 4096
const zeros = Buffer.alloc(holeBytes)

/** @throws Failure `target_conflict`, `object_damaged`, `object_missing` */
export async function restoreFile(restore: Restore, place: NodePlace, node: FileNode): Promise<void> {
  await clearTheWay(restore, place)
  const linkable = node.links > 1n && node.inode !== 0n
  const key = `${node.deviceId}:${node.inode}`
  const first = linkable ? restore.linked.get(key) : undefined
  // The content is compared: a tree may claim that different files are one.
  if (first !== undefined && first.content === node.content.join() && (await linked(restore, place, first))) {
    restore.wrote(place.path, node.bytes)
    return
  }
  const handle = await open(place.directory.child(place.name), createFlags, 0o600)
  try {
    await writeContent(restore, handle, place, node)
    await applyMetadata(restore, handle, node)
    if (!linkable || first !== undefined) return
    const { ino, dev } = await handle.stat({ bigint: true })
    restore.linked.set(key, { path: place.path, content: node.content.join(), inode: ino, device: dev })
  } finally {
    await handle.close()
  }
}

async function writeContent(restore: Restore, handle: FileHandle, place: NodePlace, node: FileNode): Promise<void> {
  let at = 0
  for await (const piece of readFile(restore.vault, node)) {
    restore.abort()
    await writeWithHoles(handle, piece, at)
    at += piece.length
    restore.wrote(place.path, piece.length)
  }
  await handle.truncate(at)
  if (at === node.bytes) return
  throw new Failure({
    code: 'object_damaged',
    message: `${JSON.stringify(place.path)} should have ${node.bytes} bytes, but its content has ${at}`,
  })
}

async function writeWithHoles(handle: FileHandle, piece: Uint8Array, position: number): Promise<void> {
  const isHole = (from: number) =>
    from + holeBytes <= piece.length && zeros.equals(piece.subarray(from, from + holeBytes))
  for (let from = 0; from < piece.length; ) {
    if (isHole(from)) {
      from += holeBytes
      continue
    }
    let to = Math.min(piece.length, from + holeBytes)
    while (to < piece.length && !isHole(to)) to = Math.min(piece.length, to + holeBytes)
    for (let written = from; written < to; ) {
      const { bytesWritten } = await handle.write(piece, written, to - written, position + written)
      written += bytesWritten
    }
    from = to
  }
}

/** Gives the restored file another name. False where it is no longer the file that was restored. */
async function linked(restore: Restore, place: NodePlace, first: LinkedFile): Promise<boolean> {
  const components = first.path.split('/')
  const name = components.pop() ?? ''
  const opened = []
  try {
    let directory = restore.root
    for (const component of components) {
      directory = await directory.open(component)
      opened.push(directory)
    }
    const child = place.directory.child(place.name)
    await link(directory.child(name), child)
    const made = await lstat(child, { bigint: true })
    if (made.ino === first.inode && made.dev === first.device) return true
    await unlink(child)
    return false
  } finally {
    for (const directory of opened) await directory.close()
  }
}
