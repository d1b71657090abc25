/**
 * Owns looking at and opening the entries of a directory in the calling thread: relative to the open directory where the
 * system has calls for that, which takes half the time, else by way of a path that leads through it.
 */
import { lstatSync, openSync } from 'node:fs'
import type { FileStatus } from './file-status.ts'
import { linuxCalls } from './native-calls.ts'

export interface FolderAt {
  /** Of the open directory; undefined: it is not open. */
  readonly fd: number | undefined
  /** Where the operating system finds it, ending with "/". */
  readonly at: Uint8Array
}

export interface EntryAt {
  readonly folder: FolderAt
  readonly name: Uint8Array
}

/** A path by which the operating system finds the entry. */
export function pathOf({ folder, name }: EntryAt): Buffer {
  return Buffer.concat([folder.at, name])
}

/** A link is not followed. @throws errors of the operating system, as the others */
export function statusOf(entry: EntryAt): FileStatus {
  const calls = linuxCalls()
  const { fd } = entry.folder
  if (calls === undefined || fd === undefined) return lstatSync(pathOf(entry), { bigint: true })
  return calls.statAt(fd, entry.name)
}

/** `flags` as for open(2). */
export function openEntry(entry: EntryAt, flags: number): number {
  const calls = linuxCalls()
  const { fd } = entry.folder
  if (calls === undefined || fd === undefined) return openSync(pathOf(entry), flags)
  return calls.openAt(fd, entry.name, flags)
}

/** Opens a file that is made if it is not there; `flags` say so. */
export function createEntry(
  entry: EntryAt,
  { flags, permissions }: { readonly flags: number; readonly permissions: number },
): number {
  const calls = linuxCalls()
  const { fd } = entry.folder
  if (calls === undefined || fd === undefined) return openSync(pathOf(entry), flags, permissions)
  return calls.createAt(fd, entry.name, { flags, permissions })
}
