/**
 * Trees as other programs write them: restic on Windows, its old versions, later ones. What is in them is read, restored
 * as far as this system can, and not lost where a snapshot is written anew.
 */
import { cp, readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { TreeId } from '@stillpoint/core/kernel'
import { newerResticName, newestRestic } from '@stillpoint/testbed'
import { describe, expect, test } from 'vitest'
import { readAttributes } from '../extended-attributes.ts'
import { sha256 } from '../format/ids.ts'
import { encodeTree } from '../format/tree.ts'
import { parsePattern } from '../selection/path-pattern.ts'
import { newRepository, newVault, reopen, restic, scratch } from '../testing/testbed.ts'
import { plant, plantSnapshot, treeOf } from '../torture/hostile.ts'

const emptyTree = sha256(encodeTree([]))
const isNewer = newestRestic.name === newerResticName
const times =
  '"mtime":"2024-02-29T12:00:00+01:00","atime":"0000-01-01T00:00:00Z","ctime":"9999-12-31T23:59:59.999999999Z"'
const first = Buffer.from('first ')
const second = Buffer.from('second')
const lost = 'ab'.repeat(32)
const windows =
  '"generic_attributes":{"windows.creation_time":"gLyNXGpM2gE=","windows.file_attributes":32,' +
  '"windows.security_descriptor":"AQAUvBQAAAAwAAAA"}'

interface Planted {
  readonly path: string
  readonly tree: TreeId
}

const file = (name: string, fields: string, content: readonly string[], size: number) =>
  `{"name":"${name}","type":"file","mode":438,${times},"uid":0,"gid":0,"inode":18446744073709551615,"device_id":3,` +
  `"size":${size},"links":1,${fields}"content":${JSON.stringify(content)}}`

/** A repository with one snapshot of Windows, as restic 0.18 saves it. */
async function plantForeign(nodes: (ids: { readonly below: TreeId }) => readonly string[]): Promise<Planted> {
  const path = join(await scratch(), 'repository')
  await newRepository(path)
  const vault = await newVault(path)
  const attributes = '"extended_attributes":[{"name":"user.ü","value":"AP8="},{"name":"user.none","value":null}],'
  const below = treeOf([
    file('a', `${attributes}${windows},`, [sha256(first), sha256(second)], 12),
    file('b', `${windows},`, [sha256(first), lost], 12),
  ])
  const root = treeOf(nodes({ below: below.id }))
  const data = [first, second].map((plaintext) => ({ type: 'data', plaintext }) as const)
  await plant(vault, [...data, below.blob, root.blob])
  await plantSnapshot(vault, { tree: `"${root.id}"` })
  return { path, tree: root.id }
}

const drive = (below: TreeId) =>
  `{"name":"C","type":"dir","mode":2147484159,${times},"uid":0,"gid":0,${windows},"content":null,"subtree":"${below}"}`
const link =
  `{"name":"link","type":"symlink","mode":134218239,${times},"uid":0,"gid":0,"linktarget":"a\\ufffd",` +
  '"linktarget_raw":"Yf8=","content":null}'
const later = file('later', '"error":"could not be read","of_tomorrow":{"nodes":[1.0,"]"]},', [sha256(first)], 6)

async function textOf(path: string, tree: string): Promise<string> {
  const repository = await reopen(path)
  return (await repository.upkeep.blobContent(tree)).toString()
}

describe('trees of other systems and other times', () => {
  test('are listed and restored; what this system has no place for is left out', async () => {
    const { path, tree } = await plantForeign(({ below }) => [drive(below), link, later])
    const repository = await reopen(path)
    const target = join(path, '..', 'target')
    const restored = await repository.loadDirectory(tree, target, { onProblem: 'continue' })
    expect(restored.problems.map(({ path: at }) => at)).toEqual(['C/b'])
    expect(await readFile(join(target, 'C/a'), 'utf8')).toBe('first second')
    expect(await readFile(join(target, 'later'), 'utf8')).toBe('first ')
    expect((await readlink(join(target, 'link'), 'buffer')).toString('latin1')).toBe('a\xff')
    const { attributes } = readAttributes(Buffer.from(join(target, 'C/a')))
    expect(attributes.map(({ name, value }) => [name, value.length]).sort()).toEqual([
      ['user.none', 0],
      ['user.ü', 2],
    ])
  })

  test('keep all of it where paths are left out', async () => {
    const { path } = await plantForeign(({ below }) => [drive(below), link, later])
    const repository = await reopen(path)
    const [done] = await repository.upkeep.rewrite({
      snapshots: await repository.snapshots(),
      exclude: (at) => at === '/C/b' || at === '/link',
    })
    const { tree } = await repository.findSnapshot(done?.newId ?? '')
    const below = belowOf(await textOf(path, tree))
    expect(await textOf(path, tree)).toBe(`{"nodes":[${drive(below as TreeId)},${later}]}\n`)
    expect(await textOf(path, below)).toContain(`"user.none","value":null}],${windows},"content"`)
    expect(await textOf(path, below)).not.toContain('"name":"b"')
  })

  test('keep all of it where only some paths are included', async () => {
    const { path } = await plantForeign(({ below }) => [drive(below), link, later])
    const repository = await reopen(path)
    const snapshots = await repository.snapshots()
    const [before] = snapshots
    const whole = belowOf(await textOf(path, before?.tree ?? ''))
    const [some] = await repository.upkeep.rewrite({ snapshots, include: patterns('/c/A', 'LATER') })
    const { tree } = await repository.findSnapshot(some?.newId ?? '')
    const below = belowOf(await textOf(path, tree))
    expect(await textOf(path, tree)).toBe(`{"nodes":[${drive(below as TreeId)},${later}]}\n`)
    const all = await textOf(path, whole)
    expect(await textOf(path, below)).toBe(`${all.slice(0, all.indexOf(',{"name":"b"'))}]}\n`)
    // A directory that matches is the same as before.
    const [directory] = await repository.upkeep.rewrite({ snapshots, include: patterns('c') })
    const { tree: only } = await repository.findSnapshot(directory?.newId ?? '')
    expect(await textOf(path, only)).toBe(`{"nodes":[${drive(whole as TreeId)}]}\n`)
  })

  test.runIf(isNewer)(`are repaired as ${newerResticName} repairs them [needs ${newerResticName}]`, async () => {
    const lostDirectory = `{"name":"D","type":"dir","mode":2147484159,${times},"uid":0,"gid":0,${windows},"content":null}`
    const door = `{"name":"door","type":"irregular","mode":524288,${times},"uid":0,"gid":0,"content":null}`
    const { path } = await plantForeign(({ below }) => [drive(below), lostDirectory, door, link])
    const copy = join(path, '..', 'copy')
    await cp(path, copy, { recursive: true })
    const repository = await reopen(path)
    const { problems } = await repository.check()
    expect(problems).toHaveLength(3)
    const [repaired] = await repository.upkeep.repairSnapshots({ forget: true })
    expect(repaired?.changes.map(({ path: at, what }) => `${what} ${at}`)).toEqual([
      'content_removed /C/b',
      'directory_emptied /D/',
      'entry_removed /door',
    ])
    expect((await repository.check({ readData: true })).problems).toEqual([])
    expect(await restic(path, 'check', '--read-data')).toContain('no errors were found')
    await restic(copy, 'repair', 'snapshots', '--forget')
    const [ours] = await (await reopen(path)).snapshots()
    const [theirs] = await (await reopen(copy)).snapshots()
    // Its empty tree has no list, unlike those that it saves.
    const theirText = (await textOf(copy, theirs?.tree ?? '')).replace(
      sha256(Buffer.from('{"nodes":null}\n')),
      emptyTree,
    )
    expect(await textOf(path, ours?.tree ?? '')).toBe(theirText)
    expect(await readdir(join(path, 'snapshots'))).toHaveLength(1)
  })
})

const patterns = (...texts: readonly string[]) => texts.map((text) => parsePattern(text, { ignoreCase: true }))
const belowOf = (text: string) => /"subtree":"([0-9a-f]{64})"/.exec(text)?.[1] ?? ''
