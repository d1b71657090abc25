/**
 * Owns the translation between the mode of POSIX `stat` and the one in trees: the permission bits are equal, type and
 * special bits are those of the Go language's `fs.FileMode`.
 */
export const typeBits = {
  dir: 0x8000_0000,
  symlink: 0x0800_0000,
  device: 0x0400_0000,
  fifo: 0x0200_0000,
  socket: 0x0100_0000,
  charDevice: 0x0020_0000,
} as const

const setUserId = 0x0080_0000
const setGroupId = 0x0040_0000
const sticky = 0x0010_0000

/** Permission and special bits of a POSIX mode, as stored; without the type. */
export function storedPermissions(posixMode: number): number {
  let mode = posixMode & 0o777
  if (posixMode & 0o4000) mode += setUserId
  if (posixMode & 0o2000) mode += setGroupId
  if (posixMode & 0o1000) mode += sticky
  return mode
}

/** The twelve permission bits of a POSIX mode, from a stored one. */
export function posixPermissions(stored: number): number {
  let mode = stored & 0o777
  if (stored & setUserId) mode |= 0o4000
  if (stored & setGroupId) mode |= 0o2000
  if (stored & sticky) mode |= 0o1000
  return mode
}
