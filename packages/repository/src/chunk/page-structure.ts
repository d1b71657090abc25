/**
 * Owns recognising files that are changed page by page, by how they begin: databases and disk images. A wrong guess costs
 * some deduplication and nothing else, so that a file may claim to be what it is not.
 */
import type { Chunking } from './cutter.ts'

/** So many bytes of a file's beginning are needed. */
export const pageHeadBytes = 64

const sqliteMagic = Buffer.from('SQLite format 3\0', 'latin1')
const qcowMagic = Buffer.from('QFI\xfb', 'latin1')
const postgresPageBytes = 8192
const postgresHeaderBytes = 24
const innodbPageBytes = 16384

/** `bytes`: length of the file. Files of less than a few pages are cut by content. */
export function chunkingOf(head: Uint8Array, bytes: number): Chunking {
  const view = Buffer.from(head.buffer, head.byteOffset, head.byteLength)
  const pageBytes = head.length < pageHeadBytes ? undefined : pageBytesOf(view)
  if (pageBytes === undefined || bytes % pageBytes !== 0 || bytes < 4 * pageBytes) return { kind: 'content' }
  return { kind: 'pages', pageBytes }
}

function pageBytesOf(head: Buffer): number | undefined {
  if (head.subarray(0, sqliteMagic.length).equals(sqliteMagic)) return sqlitePageBytes(head)
  if (head.subarray(0, qcowMagic.length).equals(qcowMagic)) return qcowClusterBytes(head)
  if (isPostgresPage(head)) return postgresPageBytes
  if (isInnodbSpace(head)) return innodbPageBytes
  return undefined
}

/** https://www.sqlite.org/fileformat.html, 1.3.2: a power of two from 512; 1 stands for 65536. */
function sqlitePageBytes(head: Buffer): number | undefined {
  const stored = head.readUInt16BE(16)
  const pageBytes = stored === 1 ? 65536 : stored
  return pageBytes >= 512 && (pageBytes & (pageBytes - 1)) === 0 ? pageBytes : undefined
}

/** QEMU's docs/interop/qcow2.txt: `cluster_bits` at 20, from 9 to 21. */
function qcowClusterBytes(head: Buffer): number | undefined {
  const bits = head.readUInt32BE(20)
  return bits >= 9 && bits <= 21 ? 2 ** bits : undefined
}

/** PostgreSQL's `PageHeaderData`: layout version 4 and page size in one word at 18, and pointers that are in order. */
function isPostgresPage(head: Buffer): boolean {
  if (head.readUInt16LE(18) !== (postgresPageBytes | 4)) return false
  const [lower, upper, special] = [head.readUInt16LE(12), head.readUInt16LE(14), head.readUInt16LE(16)]
  return postgresHeaderBytes <= lower && lower <= upper && upper <= special && special <= postgresPageBytes
}

/** InnoDB's first page of a tablespace: number 0 at 4, type `FIL_PAGE_TYPE_FSP_HDR` at 24, the same space id at 34 and 38. */
function isInnodbSpace(head: Buffer): boolean {
  return head.readUInt32BE(4) === 0 && head.readUInt16BE(24) === 8 && head.readUInt32BE(34) === head.readUInt32BE(38)
}
