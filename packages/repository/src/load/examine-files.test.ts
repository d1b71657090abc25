import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { scratch } from '../testing/testbed.ts'
import { examineFiles, isKept } from './examine-files.ts'

test('a blob that claims to be as long as a huge sparse file is compared in pieces', async () => {
  const directory = await scratch()
  const bytes = 96 << 20
  const handle = await open(join(directory, 'sparse'), 'w')
  await handle.truncate(bytes)
  await handle.close()
  const hash = createHash('sha256')
  for (let piece = 0; piece < 96; piece += 1) hash.update(new Uint8Array(1 << 20))
  const file = {
    directory: 0,
    name: Buffer.from('sparse'),
    bytes,
    mtime: 0n,
    permissions: 0o644,
    uid: -1,
    gid: -1,
    hasAttributes: false,
    position: 0,
    blobs: 1,
  }
  const input = {
    directories: [Buffer.from(`${directory}/`)],
    files: [file, { ...file, position: 1 }],
    ids: Buffer.concat([hash.copy().digest(), hash.digest()]),
    lengths: Float64Array.of(bytes, bytes),
    overwrite: 'always',
  } as const
  const before = process.memoryUsage().arrayBuffers
  const [whole, beyond] = examineFiles(input)
  expect(whole).toMatchObject({ kind: 'file', there: Uint8Array.of(1) })
  expect(beyond).toMatchObject({ kind: 'file', there: Uint8Array.of(0) })
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 << 20)
})

test('a restored file is not older than in the snapshot for what its time has lost below the microsecond', () => {
  const wanted = 1_700_000_000_123_456_789n
  expect(isKept('if-newer', { found: wanted - 500n, wanted })).toBe(true)
  expect(isKept('if-newer', { found: wanted - 1000n, wanted })).toBe(false)
  expect(isKept('always', { found: wanted, wanted })).toBe(false)
})
