import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, expect, test } from 'vitest'
import { chunkingOf, pageHeadBytes } from './page-structure.ts'

const content = { kind: 'content' }

function file(bytes: number, write: (head: Buffer) => void): [Uint8Array, number] {
  const head = Buffer.alloc(pageHeadBytes)
  write(head)
  return [head, bytes]
}

describe('files that are changed page by page', () => {
  test('an SQLite database that SQLite has written, of each page size', () => {
    const home = mkdtempSync(join(tmpdir(), 'stillpoint-pages-'))
    for (const pageBytes of [512, 4096, 65536]) {
      const path = join(home, `${pageBytes}.db`)
      const database = new DatabaseSync(path)
      database.exec(`PRAGMA page_size = ${pageBytes}; CREATE TABLE t (a); CREATE TABLE u (a); CREATE TABLE v (a)`)
      database.close()
      const head = readFileSync(path).subarray(0, pageHeadBytes)
      expect(chunkingOf(head, statSync(path).size)).toEqual({ kind: 'pages', pageBytes })
    }
    expect(readdirSync(home)).toHaveLength(3)
    rmSync(home, { recursive: true })
  })

  test('a heap of PostgreSQL, a tablespace of InnoDB, a disk image of QEMU', () => {
    const postgres = file(8192 * 100, (head) => {
      head.writeUInt16LE(200, 12)
      head.writeUInt16LE(4000, 14)
      head.writeUInt16LE(8192, 16)
      head.writeUInt16LE(8192 | 4, 18)
    })
    expect(chunkingOf(...postgres)).toEqual({ kind: 'pages', pageBytes: 8192 })
    const innodb = file(16384 * 7, (head) => {
      head.writeUInt16BE(8, 24)
      head.writeUInt32BE(5, 34)
      head.writeUInt32BE(5, 38)
    })
    expect(chunkingOf(...innodb)).toEqual({ kind: 'pages', pageBytes: 16384 })
    const qcow = file(65536 * 9, (head) => {
      head.write('QFI\xfb', 'latin1')
      head.writeUInt32BE(16, 20)
    })
    expect(chunkingOf(...qcow)).toEqual({ kind: 'pages', pageBytes: 65536 })
  })

  test('everything else is cut by content', () => {
    const sqlite = (pageBytes: number) => (head: Buffer) =>
      head.writeUInt16BE(pageBytes, head.write('SQLite format 3\0'))
    expect(chunkingOf(...file(1 << 20, () => undefined))).toEqual(content)
    expect(chunkingOf(...file(1 << 20, sqlite(4097)))).toEqual(content)
    expect(chunkingOf(...file(4096 * 100 + 1, sqlite(4096)))).toEqual(content)
    expect(chunkingOf(...file(4096, sqlite(4096)))).toEqual(content)
    expect(chunkingOf(Buffer.from('SQLite format 3\0'), 1 << 20)).toEqual(content)
    expect(chunkingOf(new Uint8Array(0), 0)).toEqual(content)
  })
})
