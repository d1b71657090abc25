/** Listings for ncdu, with the real ncdu as the judge of what it can read. */
import { spawnSync } from 'node:child_process'
import { symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Snapshot, TreeNode } from '@stillpoint/repository'
import { hasTool } from '@stillpoint/testbed'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { start } from '../workbench.ts'
import { type ListedEntry, ncduListing } from './ncdu.ts'
import { makeBench, type RepoBench } from './repo-workbench.ts'

let bench: RepoBench
beforeAll(async () => {
  bench = await makeBench()
})
afterAll(() => bench.remove())

const hex = '0'.repeat(64)
const snapshot = {
  id: hex,
  time: 1_700_000_000_900_000_000n,
  tree: hex,
  paths: ['/'],
  hostname: 'host',
  username: '',
  uid: 0,
  gid: 0,
  excludes: [],
  tags: [],
} as unknown as Snapshot

const file = (name: string, change: Partial<TreeNode> = {}): TreeNode =>
  ({
    name,
    type: 'file',
    bytes: 1,
    content: [],
    permissions: 0o644,
    mtime: 0n,
    atime: 0n,
    ctime: 0n,
    uid: 0,
    gid: 0,
    user: '',
    group: '',
    inode: 1n,
    deviceId: 1n,
    links: 1n,
    extendedAttributes: [],
    ...change,
  }) as TreeNode
const folder = (name: string) => ({ ...file(name), type: 'dir', subtree: hex }) as TreeNode

async function textOf(entries: Iterable<ListedEntry>): Promise<string> {
  const pieces: Uint8Array[] = []
  for await (const piece of ncduListing(snapshot, entries)) pieces.push(piece)
  return Buffer.concat(pieces).toString('utf8')
}

/** A file is a name, a directory an array that begins with its own. */
type Names = string | readonly Names[]
type Below = { readonly name: string; readonly below?: readonly Below[] }

function* walked(below: readonly Below[], path: string): Generator<ListedEntry> {
  for (const { name, below: deeper } of below) {
    yield { path: `${path}${name}`, node: deeper === undefined ? file(name) : folder(name) }
    if (deeper !== undefined) yield* walked(deeper, `${path}${name}/`)
  }
}

const namesOf = ({ name, below }: Below): Names => {
  const written = name === '' ? '\ufffd' : name.replaceAll('\0', '\ufffd')
  return below === undefined ? written : [written, ...below.map(namesOf)]
}

function namesIn(entry: unknown): Names {
  return Array.isArray(entry) ? entry.map(namesIn) : String(Object(entry).name)
}

/** What ncdu gives out of what it has read; it ends with 0 whatever it reads. */
function throughNcdu(listing: string): readonly unknown[] {
  const { stdout, stderr } = spawnSync('ncdu', ['-e', '-f', '-', '-o', '-'], {
    input: listing,
    encoding: 'utf8',
    env: { ...process.env, TERM: 'xterm' },
  })
  expect(stderr).toBe('')
  return JSON.parse(stdout)
}

describe('a listing for ncdu', () => {
  test('has the fields of restic, in its order', async () => {
    const node = file('a', { bytes: 513, permissions: 0o4755, mtime: 12_900_000_000n, inode: 2n ** 64n - 1n })
    expect(await textOf([{ path: '/a', node }])).toBe(
      `[1, 2, {"time":"2023-11-14T22:13:20.9Z","tree":"${hex}","paths":["/"],"hostname":"host","id":"${hex}",` +
        `"short_id":"00000000","progname":"stillpoint","timestamp":1700000000}, [{"name":"/"},\n` +
        '{"name":"a","asize":513,"dsize":1024,"dev":1,"ino":18446744073709551615,"nlink":1,"notreg":false,' +
        '"uid":0,"gid":0,"mode":2541,"mtime":12}]]\n',
    )
    expect(await textOf([])).toMatch(/, \[\{"name":"\/"\}\]\]\n$/)
  })

  test('nests any tree, whatever its names', async () => {
    const { tree } = fc.letrec<{ entry: Below; tree: readonly Below[] }>((tie) => ({
      entry: fc.record(
        { name: fc.string({ unit: fc.constantFrom('/', 'a', '.', '"', '\\', '\0', '\n', 'é') }), below: tie('tree') },
        { requiredKeys: ['name'] },
      ),
      tree: fc.array(tie('entry'), { maxLength: 4, depthIdentifier: 'tree' }),
    }))
    await fc.assert(
      fc.asyncProperty(tree, async (below) => {
        const [, , , root] = JSON.parse(await textOf(walked(below, '/')))
        expect(namesIn(root)).toEqual(['/', ...below.map(namesOf)])
      }),
    )
  })

  test('comes in pieces, not as a whole', async () => {
    function* many() {
      for (let at = 0; at < 10_000; at += 1) yield { path: `/file ${at}`, node: file(`file ${at}`) }
    }
    const lengths: number[] = []
    for await (const { length } of ncduListing(snapshot, many())) lengths.push(length)
    expect(lengths.length).toBeGreaterThan(10)
    expect(Math.max(...lengths)).toBeLessThan(1 << 17)
  })
})

describe.skipIf(!hasTool('ncdu'))('ncdu itself [needs ncdu]', () => {
  test('reads what a snapshot has', async () => {
    await writeFile(join(bench.source, 'old'), '')
    await utimes(join(bench.source, 'old'), -1, -1)
    await symlink('x', Buffer.concat([Buffer.from(bench.source), Buffer.from('/not \xff utf-8', 'latin1')]))
    await bench.ok('backup', 'source')
    const { code, stdout, stderr } = await bench.ours('ls', '--ncdu', 'latest')
    expect([code, stderr]).toEqual([0, ''])
    const [, , about, read] = throughNcdu(stdout)
    expect(about).toMatchObject({ progname: 'ncdu' })
    const names = JSON.stringify(namesIn(read))
    const source = '["source","a.txt",["below","b.log",["deeper","c.txt"],"link"],["empty"],"not \ufffd utf-8","old"]'
    expect(names).toContain(source)
    expect(JSON.stringify(read)).toMatch(/\{"name":"b\.log","asize":8000,"dsize":8192,[^}]*"mode":2541/)
    expect(JSON.stringify(read)).toMatch(/\{"name":"link",[^}]*"notreg":true/)
  })

  test('reads a part of one, with the way to it', async () => {
    const part = async (...args: readonly string[]) => {
      const [, , , read] = throughNcdu(await bench.ok('ls', '--ncdu', ...args))
      return JSON.stringify(namesIn(read))
    }
    expect(await part('latest', '/source/below')).toBe('["/",["source",["below","b.log",["deeper"],"link"]]]')
    const deep = await part('--recursive', 'latest', '/source/below/deeper', '/source/empty')
    expect(deep).toBe('["/",["source",["below",["deeper","c.txt"]],["empty"]]]')
  })

  test('reads the largest numbers, and names that cannot be', async () => {
    const most = file('most', {
      bytes: Number.MAX_SAFE_INTEGER,
      uid: 0xffff_fffe,
      gid: 0xffff_ffff,
      inode: 2n ** 64n - 1n,
      deviceId: 2n ** 64n - 1n,
      links: 2n ** 64n - 1n,
      mtime: -1n,
    })
    const names = ['', '\0', 'a\0b', '\ud800', '\udcff\udcfe', '😀', '\u2028', '..', 'a/b', '"', '\\', '\u0001']
    const entries = [most, ...names.map((name) => file(name))].map((node) => ({ path: `/${node.name}`, node }))
    const [, , , read] = throughNcdu(await textOf(entries))
    expect(namesIn(read)).toEqual([
      '/',
      'most',
      ...['\ufffd', '\ufffd', 'a\ufffdb', '\ufffd', '\ufffd\ufffd', '😀', '\u2028', '..', 'a/b', '"', '\\', '\u0001'],
    ])
  })

  test('complains where something is wrong', () => {
    expect(() => throughNcdu('[1, 2, {}, [{"name":"/"},\n{"name":"a","uid":4294967294}]]\n')).toThrow(/out of range/)
  })
})

test('--ncdu and --json exclude each other; a reader that goes away is no failure', async () => {
  expect(await bench.ours('ls', '--ncdu', '--json', 'latest')).toMatchObject({ code: 2, stdout: '' })
  const started = start(bench.directory, ['repo', 'ls', '--ncdu', 'latest'])
  started.child.stdout?.destroy()
  expect(await started.ended).toMatchObject({ code: 0, stderr: '' })
})
