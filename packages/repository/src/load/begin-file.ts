/** Owns making a file that is written in pieces, or finding one that is there, before its first blob is written. */
import { closeSync, constants, fstatSync, ftruncateSync, openSync } from 'node:fs'
import { errnoOf } from '../blob/storage-failure.ts'
import type { FileStart } from './decide-files.ts'
import type { Load } from './load.ts'
import { conflict, type NodePlace } from './place-node.ts'
import { clearTheWay } from './remove-entries.ts'

/** A file that is written in pieces, for any thread to find. */
export interface BegunFile {
  readonly inode: number
  readonly device: number
  /** It reads as zeros where nothing was written. */
  readonly isSparse: boolean
}

const createFlags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
const updateFlags = constants.O_WRONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** @throws Failure `target_conflict`; errors of the system */
export async function beginFile(
  load: Load,
  place: NodePlace,
  { start, bytes }: { readonly start: FileStart | undefined; readonly bytes: number },
): Promise<BegunFile> {
  if (start?.kind === 'update') return updateFile(place, start, bytes)
  if (start?.clears === true) await clearTheWay(load, place)
  const fd = createFile(place)
  try {
    ftruncateSync(fd, bytes)
    const { ino, dev } = fstatSync(fd)
    return { inode: ino, device: dev, isSparse: true }
  } finally {
    closeSync(fd)
  }
}

function createFile(place: NodePlace): number {
  try {
    return openSync(place.directory.child(place.name), createFlags, 0o600)
  } catch (error) {
    throw errnoOf(error) === 'EEXIST' ? conflict(place, error) : error
  }
}

function updateFile(
  place: NodePlace,
  { inode, device, isEmptied }: Extract<FileStart, { kind: 'update' }>,
  bytes: number,
): BegunFile {
  const fd = openSync(place.directory.child(place.name), updateFlags)
  try {
    const { ino, dev } = fstatSync(fd)
    if (ino !== inode || dev !== device) throw conflict(place)
    if (isEmptied) ftruncateSync(fd, 0)
    ftruncateSync(fd, bytes)
    return { inode, device, isSparse: isEmptied }
  } finally {
    closeSync(fd)
  }
}
