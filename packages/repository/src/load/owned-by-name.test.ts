/** Owners and groups that are restored by their names, beside those that go by number. */
import { spawnSync } from 'node:child_process'
import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { extendedAttributesKnown, readAttributes } from '../extended-attributes.ts'
import type { TreeEntry } from '../save/tree-entry.ts'
import { newRepository, newVault, scratch, seeded } from '../testing/testbed.ts'
import { type LoadDirectoryOptions, loadDirectory } from './load-directory.ts'

/** What belongs to 1000 and 2000 in the snapshot belongs to 4001 and 4002 here. */
const accounts = {
  users: new Map([
    ['alice', 4001],
    ['same', 1000],
  ]),
  groups: new Map([
    ['staff', 4002],
    ['same', 2000],
  ]),
}

const numbers = { uid: 1000, gid: 2000 }
const byNumber = '1000:2000'

/** Owner and group in the snapshot, and whose it is when that goes by name. */
const owned = {
  known: { ...numbers, user: 'alice', group: 'staff', expected: '4001:4002' },
  'only-user': { ...numbers, user: 'alice', group: 'gone', expected: '4001:2000' },
  'only-group': { ...numbers, user: 'gone', group: 'staff', expected: '1000:4002' },
  unknown: { ...numbers, user: 'gone', group: 'gone', expected: byNumber },
  // Names of groups are no users, and the other way round.
  crossed: { ...numbers, user: 'staff', group: 'alice', expected: byNumber },
  nameless: { ...numbers, user: '', group: '', expected: byNumber },
  same: { ...numbers, user: 'same', group: 'same', expected: byNumber },
} as const
const { expected: _, ...known } = owned.known
const mtime = 1_600_000_000_000_000_000n

interface Bench {
  readonly target: string
  restore(options: LoadDirectoryOptions): ReturnType<typeof loadDirectory>
  /** "uid:gid" by path, of all that the tree has. */
  owners(): Promise<Record<string, string>>
}

interface Expected {
  readonly byNumber: Record<string, string>
  readonly byName: Record<string, string>
}

/** Files of no, one and several blobs, and with attributes, directories, links, a pipe, a device, names of one file. */
async function bench(sectionFilesMax: number): Promise<Bench & { readonly expected: Expected }> {
  const home = await scratch()
  const target = join(home, 'target')
  const repository = await newRepository(join(home, 'repository'))
  const save = await repository.startSave()
  const small = await save.saveBytes(Buffer.from('small'))
  const large = await save.saveBytes(seeded(5).bytes(3_000_000))
  expect(large.content.length).toBeGreaterThan(1)
  const entries: TreeEntry[] = []
  for (const [name, { expected: _, ...owner }] of Object.entries(owned)) {
    const { content, bytes } = small
    entries.push({ name: `file-${name}`, type: 'file', content, bytes, mtime, permissions: 0o4755, ...owner })
    entries.push({ name: `link-${name}`, type: 'symlink', target: 'absent', mtime, ...owner })
    entries.push({ name: `pipe-${name}`, type: 'fifo', mtime, ...owner })
    const subtree = await save.saveTree([{ name: 'file', type: 'file', content, bytes, mtime, ...owner }])
    entries.push({ name: `dir-${name}`, type: 'dir', subtree, mtime, ...owner })
  }
  entries.push({ name: 'empty', type: 'file', content: [], bytes: 0, mtime, ...known })
  entries.push({ name: 'large', type: 'file', ...large, mtime, ...known })
  entries.push({ name: 'null', type: 'chardev', device: 0x103n, mtime, ...known })
  for (const name of ['hard-1', 'hard-2']) {
    const file = { name, type: 'file', ...small, inode: 7n, deviceId: 1n, links: 2n } as const
    entries.push({ ...file, mtime, ...known })
  }
  const tree = await save.saveTree(entries)
  await save.finish()
  const expected: Expected = { byNumber: {}, byName: {} }
  for (const { name, type } of entries) {
    const owner = owned[name.slice(name.indexOf('-') + 1) as keyof typeof owned] ?? owned.known
    for (const path of type === 'dir' ? [name, `${name}/file`] : [name]) {
      expected.byNumber[path] = byNumber
      expected.byName[path] = owner.expected
    }
  }
  const vault = await newVault(join(home, 'repository'))
  const lockSignal = new AbortController().signal
  return {
    target,
    expected,
    restore: (options) =>
      loadDirectory(vault, { tree, targetPath: target, lockSignal, accounts, sectionFilesMax }, options),
    async owners() {
      const found: Record<string, string> = {}
      for (const path of Object.keys(expected.byName)) {
        const { uid, gid } = await lstat(join(target, path))
        found[path] = `${uid}:${gid}`
      }
      return found
    },
  }
}

const files = ['file-known', 'file-unknown', 'dir-known/file', 'empty', 'large', 'hard-1']
const ctimes = (target: string) =>
  Promise.all(files.map(async (file) => (await lstat(join(target, file), { bigint: true })).ctimeNs))

describe.skipIf(process.getuid?.() !== 0)('owners by name [needs root]', () => {
  for (const sectionFilesMax of [2, 1000]) {
    test(`in sections of ${sectionFilesMax} files: known names give the numbers of here, others none`, async () => {
      const { target, expected, restore, owners } = await bench(sectionFilesMax)
      const first = await restore({ ownershipByName: true, verify: true })
      expect(first).toMatchObject({ problems: [], skipped: [], unchanged: { files: 0 } })
      expect(await owners()).toEqual(expected.byName)
      const [one, two] = await Promise.all(['hard-1', 'hard-2'].map((name) => lstat(join(target, name))))
      expect(one?.ino).toBe(two?.ino)
      expect((await lstat(join(target, 'file-known'))).mode & 0o7777).toBe(0o4755)
    })
  }

  for (const overwrite of ['always', 'if-changed'] as const) {
    test(`${overwrite}: a second restore finds all files unchanged, and does not touch them`, async () => {
      const { target, expected, restore, owners } = await bench(1000)
      const { files: restored } = await restore({ ownershipByName: true })
      const before = await ctimes(target)
      const again = await restore({ ownershipByName: true, overwrite, verify: true })
      expect(again).toMatchObject({ files: restored, unchanged: { files: restored }, problems: [] })
      expect(await ctimes(target)).toEqual(before)
      expect(await owners()).toEqual(expected.byName)
    })

    test(`${overwrite}: what is there by number gets the owners of the names, and the other way round`, async () => {
      const { target, expected, restore, owners } = await bench(1000)
      await restore({})
      expect(await owners()).toEqual(expected.byNumber)
      const named = await restore({ ownershipByName: true, overwrite })
      expect(named.problems).toEqual([])
      expect(await owners()).toEqual(expected.byName)
      expect((await lstat(join(target, 'file-known'))).mode & 0o7777).toBe(0o4755)
      await restore({ ownershipByName: false, overwrite })
      expect(await owners()).toEqual(expected.byNumber)
    })
  }

  test('a dry run gives nothing to anybody', async () => {
    const { expected, restore, owners } = await bench(1000)
    await restore({})
    await restore({ ownershipByName: true, overwrite: 'always', dryRun: true })
    expect(await owners()).toEqual(expected.byNumber)
  })

  test('who is not root restores no owners, by names neither', async () => {
    const { target, restore } = await bench(1000)
    const getuid = vi.spyOn(process, 'getuid').mockReturnValue(4001)
    try {
      await restore({ ownershipByName: true })
      const again = await restore({ ownershipByName: true, overwrite: 'always' })
      expect(again).toMatchObject({ problems: [], skipped: [{ path: 'null' }] })
    } finally {
      getuid.mockRestore()
    }
    for (const name of ['file-known', 'link-known', 'pipe-known', 'dir-known', 'large']) {
      expect(await lstat(join(target, name))).toMatchObject({ uid: process.geteuid?.(), gid: process.getegid?.() })
    }
  })

  test.skipIf(!extendedAttributesKnown())('users in ACLs stay numbers', async () => {
    const home = await scratch()
    // Tag, permissions and number of: owner, user 1000, group, mask, all others.
    const entries = ['1 6 -1', '2 4 1000', '4 4 -1', '16 4 -1', '32 4 -1'].map((entry) => entry.split(' ').map(Number))
    const value = Buffer.alloc(4 + entries.length * 8)
    value.writeUInt32LE(2)
    for (const [at, [tag = 0, permissions = 0, number = 0]] of entries.entries()) {
      value.writeUInt16LE(tag, 4 + at * 8)
      value.writeUInt16LE(permissions, 6 + at * 8)
      value.writeInt32LE(number, 8 + at * 8)
    }
    const acl = { name: 'system.posix_acl_access', value }
    const repository = await newRepository(join(home, 'repository'))
    const save = await repository.startSave()
    const content = await save.saveBytes(Buffer.from('shared'))
    const file = { name: 'file', type: 'file', ...content, permissions: 0o644, mtime, ...known } as const
    const tree = await save.saveTree([{ ...file, extendedAttributes: [acl] }])
    await save.finish()
    const vault = await newVault(join(home, 'repository'))
    const where = { tree, targetPath: join(home, 'target'), lockSignal: new AbortController().signal, accounts }
    expect(await loadDirectory(vault, where, { ownershipByName: true })).toMatchObject({ problems: [], skipped: [] })
    const path = join(home, 'target', 'file')
    expect(await lstat(path)).toMatchObject({ uid: 4001, gid: 4002 })
    const { attributes } = readAttributes(Buffer.from(path))
    expect(attributes.map(({ name, value: found }) => [name, Buffer.from(found).toString('hex')])).toEqual([
      [acl.name, value.toString('hex')],
    ])
  })

  test('the names of this machine are taken where none are given', async () => {
    const home = await scratch()
    const repository = await newRepository(join(home, 'repository'))
    const save = await repository.startSave()
    const owner = { uid: 4711, gid: 4712, user: 'daemon', group: 'no group of this name' }
    const tree = await save.saveTree([{ name: 'empty', type: 'file', content: [], bytes: 0, ...owner }])
    await save.finish()
    await repository.loadDirectory(tree, join(home, 'target'), { ownershipByName: true })
    const daemon = Number(spawnSync('id', ['-u', 'daemon'], { encoding: 'utf8' }).stdout)
    expect(daemon).toBeGreaterThan(0)
    expect(await lstat(join(home, 'target', 'empty'))).toMatchObject({ uid: daemon, gid: 4712 })
  })
})
