import { lstatSync } from 'node:fs'
import { utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { blobId, sha256 } from '../format/ids.ts'
import { encodeTree, type FileNode } from '../format/tree.ts'
import { scanRules } from '../testing/scan-rules.ts'
import { scratch } from '../testing/testbed.ts'
import { metadataOf } from './file-status.ts'
import { doneEntries } from './findings.ts'
import { scanNames } from './scan-names.ts'

test('a task ends where the parent knows very many chunks, and the next goes on from there', async () => {
  const directory = await scratch()
  const rules = await scanRules(1000)
  const chunk = blobId(sha256(Buffer.from('chunk')))
  const nodes: FileNode[] = []
  for (const [name, chunks] of Object.entries({ a: 1, b: 60_000, c: 60_000, d: 2 })) {
    const path = join(directory, name)
    await writeFile(path, name)
    await utimes(path, 1_700_000_000, 1_700_000_000)
    const metadata = metadataOf(name, lstatSync(path, { bigint: true }), rules)
    nodes.push({ ...metadata, type: 'file', bytes: 1, content: Array.from({ length: chunks }, () => chunk) })
  }
  const tree = encodeTree(nodes)
  const names = nodes.map(({ name }) => name)
  const given = {
    folder: { fd: undefined, at: Buffer.from(`${directory}/`) },
    path: directory,
    window: new Uint8Array(),
    rules,
  }
  const tasks: (readonly string[])[] = []
  for (let [done, at] = [0, 0]; done < names.length; ) {
    const { entries, parentAt, findings } = scanNames({ ...given, names: names.slice(done), parent: { tree, at } })
    const found = [...doneEntries(findings)]
    expect(found.every(({ change, isRead }) => change === 'unmodified' && !isRead)).toBe(true)
    expect(found).toHaveLength(entries.length)
    tasks.push(found.map(({ path }) => path))
    done += entries.length
    at = parentAt
  }
  expect(tasks).toEqual([['a', 'b'], ['c'], ['d']])
})
