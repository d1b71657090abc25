/**
 * Owns giving an entry its extended attributes, which the system takes by path only.
 *
 * Invariant: nobody else can put another file in the place of the one that gets them, such as an ACL: either the
 * directory is this program's alone, or the entry is moved for a moment into one that is. There it has a name of ASCII,
 * too, without which the library cannot reach an entry whose name is not UTF-8.
 */
import { fstatSync, lstatSync, mkdirSync, renameSync, rmdirSync } from 'node:fs'
import type { HeldDirectory } from '../anchored-directory.ts'
import { type AttributeProblem, readAttributes, type SelectAttribute, writeAttributes } from '../extended-attributes.ts'
import { hasRawBytes } from '../format/node-name.ts'
import type { ExtendedAttribute } from '../format/tree.ts'
import { conflict, type NodePlace } from './place-node.ts'

/** Of directories that stay when this program is killed, with its process's id. See sweep-remains.ts. */
export const attributesPrefix = '.stillpoint-attributes-'
const nameInside = 'entry'

let temporaries = 0

export interface AttributedEntry {
  readonly place: NodePlace
  readonly inode: bigint
  readonly device: bigint
  readonly attributes: readonly ExtendedAttribute[]
}

export interface PlaceAttributesOptions {
  /** Whether nobody else can write to the directory. */
  readonly isAlone: boolean
  readonly selects: SelectAttribute | undefined
}

/** @throws Failure `target_conflict` */
export function placeAttributes(
  entry: AttributedEntry,
  { isAlone, selects }: PlaceAttributesOptions,
): readonly AttributeProblem[] {
  const { place, attributes } = entry
  const path = place.directory.child(place.name)
  if (attributes.length === 0 && readAttributes(path).attributes.length === 0) return []
  if (isAlone && !hasRawBytes(place.name)) return writeAttributes(path, attributes, selects)
  temporaries += 1
  const temporary = `${attributesPrefix}${process.pid}-${temporaries}`
  mkdirSync(place.directory.child(temporary), { mode: 0o700 })
  const inside = place.directory.open(temporary)
  try {
    requireAlone(inside, place)
    renameSync(path, inside.child(nameInside))
    try {
      const { ino, dev } = lstatSync(inside.child(nameInside), { bigint: true })
      if (ino !== entry.inode || dev !== entry.device) throw conflict(place)
      return writeAttributes(inside.child(nameInside), attributes, selects)
    } finally {
      renameSync(inside.child(nameInside), path)
    }
  } finally {
    inside.close()
    rmdirSync(place.directory.child(temporary))
  }
}

/** It may have been replaced before it was opened. */
function requireAlone(directory: HeldDirectory, place: NodePlace): void {
  if (!isAloneIn(directory)) throw conflict(place)
}

/** Whether only this program's user can write to the directory. */
export function isAloneIn({ fd }: HeldDirectory): boolean {
  const { uid, mode } = fstatSync(fd)
  return uid === process.geteuid?.() && (mode & 0o022) === 0
}
