/**
 * What one `lstat` says of an entry, as the scan keeps it and as the capture compares it.
 *
 * Owns: which fields count as a change. Does not own: walking, or what follows from a change.
 * The times are nanoseconds since 1970 by the file system's own clock, which ticks coarsely: see scan.ts on racily clean
 * files.
 */
import type { BigIntStats } from 'node:fs'
import type { EntryStamp } from '../source.ts'

export function stampOf(stat: BigIntStats): EntryStamp {
  return {
    type: stat.isFile() ? 'file' : stat.isDirectory() ? 'directory' : stat.isSymbolicLink() ? 'symlink' : 'other',
    // A directory's size is the file system's bookkeeping: it tells nothing that its times do not.
    bytes: stat.isDirectory() ? 0 : Number(stat.size),
    mtimeNs: stat.mtimeNs,
    ctimeNs: stat.ctimeNs,
    inode: stat.ino,
  }
}

export function sameStamp(a: EntryStamp, b: EntryStamp): boolean {
  return a.ctimeNs === b.ctimeNs && sameContentStamp(a, b)
}

/** For files that were given another link meanwhile: that moves their ctime, and says nothing of their content. */
export function sameContentStamp(a: EntryStamp, b: EntryStamp): boolean {
  return (
    a.type === b.type &&
    a.inode === b.inode &&
    a.mtimeNs === b.mtimeNs &&
    (a.type === 'directory' ? a.ctimeNs === b.ctimeNs : a.bytes === b.bytes)
  )
}
