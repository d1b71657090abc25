/**
 * Owns giving an entry its extended attributes, which the system takes by path only.
 *
 * Invariant: nobody else can put another file in the place of the one that gets them, such as an ACL: either the
 * directory is this program's alone, or the entry is moved for a moment into one that is. There it has a name of ASCII,
 * too, without which the library cannot reach an entry whose name is not UTF-8.
 */
import { lstat, mkdir, rename, rmdir } from 'node:fs/promises'
import type { AnchoredDirectory } from '../anchored-directory.ts'
import { type AttributeProblem, readAttributes, writeAttributes } from '../extended-attributes.ts'
import { hasRawBytes } from '../format/node-name.ts'
import type { ExtendedAttribute } from '../format/tree.ts'
import { conflict, type NodePlace } from './place-node.ts'

let temporaries = 0
const nameInside = 'entry'

export interface AttributedEntry {
  readonly place: NodePlace
  readonly inode: bigint
  readonly device: bigint
  readonly attributes: readonly ExtendedAttribute[]
}

/**
 * @param isAlone whether nobody else can write to the directory
 * @throws Failure `target_conflict`
 */
export async function placeAttributes(entry: AttributedEntry, isAlone: boolean): Promise<readonly AttributeProblem[]> {
  const { place, attributes } = entry
  const path = place.directory.child(place.name)
  if (attributes.length === 0 && readAttributes(path).attributes.length === 0) return []
  if (isAlone && !hasRawBytes(place.name)) return writeAttributes(path, attributes)
  temporaries += 1
  const temporary = `.stillpoint-attributes-${process.pid}-${temporaries}`
  await mkdir(place.directory.child(temporary), { mode: 0o700 })
  const inside = await place.directory.open(temporary)
  try {
    await requireAlone(inside, place)
    await rename(path, inside.child(nameInside))
    try {
      const { ino, dev } = await lstat(inside.child(nameInside), { bigint: true })
      if (ino !== entry.inode || dev !== entry.device) throw conflict(place)
      return writeAttributes(inside.child(nameInside), attributes)
    } finally {
      await rename(inside.child(nameInside), path)
    }
  } finally {
    await inside.close()
    await rmdir(place.directory.child(temporary))
  }
}

/** It may have been replaced before it was opened. */
async function requireAlone(directory: AnchoredDirectory, place: NodePlace): Promise<void> {
  if (!(await isAloneIn(directory))) throw conflict(place)
}

/** Whether only this program's user can write to the directory. */
export async function isAloneIn(directory: AnchoredDirectory): Promise<boolean> {
  const { uid, mode } = await directory.handle.stat()
  return uid === process.geteuid?.() && (mode & 0o022) === 0
}
