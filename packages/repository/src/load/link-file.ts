/** Owns further names of a file that was restored. */
import { link, lstat, unlink } from 'node:fs/promises'
import type { AnchoredDirectory } from '../anchored-directory.ts'
import type { NodePlace } from './place-node.ts'

/** Where the first name of a file with several was restored. */
export interface LinkedFile {
  /** Number of the directory. */
  readonly directory: number
  readonly name: string
  readonly inode: number
  readonly device: number
}
/** By device and inode in the snapshot. */
export type LinkedFiles = Map<string, LinkedFile>

/** Gives the restored file another name. False where its first name leads to another file by now. */
export async function linkFile(place: NodePlace, first: LinkedFile, directory: AnchoredDirectory): Promise<boolean> {
  const child = place.directory.child(place.name)
  await link(directory.child(first.name), child)
  const made = await lstat(child)
  if (made.ino === first.inode && made.dev === first.device) return true
  await unlink(child)
  return false
}
