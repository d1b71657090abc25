/** Owns further names of a file that was restored. */
import { linkSync, lstatSync, unlinkSync } from 'node:fs'
import type { HeldDirectory } from '../anchored-directory.ts'
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
export function linkFile(place: NodePlace, first: LinkedFile, directory: HeldDirectory): boolean {
  const child = place.directory.child(place.name)
  linkSync(directory.child(first.name), child)
  const made = lstatSync(child)
  if (made.ino === first.inode && made.dev === first.device) return true
  unlinkSync(child)
  return false
}
