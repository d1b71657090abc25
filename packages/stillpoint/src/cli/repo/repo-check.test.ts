/** `stillpoint repo check` of some snapshots: as restic 0.19 does it, which is not here; 0.18 judges the whole. */
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { hasRestic, linesOf, makeBench, type RepoBench } from './repo-workbench.ts'

interface IndexFile {
  readonly packs: readonly { readonly id: string; readonly blobs: readonly { readonly type: string }[] }[]
}

let bench: RepoBench
/** The snapshots of two hosts, and the pack with the data of the second one, of which a bit is wrong. */
const ids = { one: '', two: '' }
let damaged = ''
let packs = 0

const rows = async (...args: readonly string[]) => (await bench.ok(...args)).split('\n').filter((row) => row !== '')

/** Backs up a directory with a file of its own; its snapshot, and the packs that came with it. */
async function backUp(name: string, ...flags: readonly string[]) {
  const before = new Set(await rows('list', 'index'))
  await mkdir(join(bench.directory, name))
  await writeFile(join(bench.directory, name, 'file'), `content of ${name}`)
  const summary = (await bench.json('backup', name, '--host', name, ...flags)).at(-1)
  const [index = ''] = (await rows('list', 'index')).filter((id) => !before.has(id))
  const { packs }: IndexFile = JSON.parse(await bench.ok('cat', 'index', index))
  return { id: String(Object(summary)['snapshot_id']), packs }
}

async function flip(pack: string): Promise<void> {
  const path = join(bench.directory, 'repository', 'data', pack.slice(0, 2), pack)
  const bytes = await readFile(path)
  bytes.writeUInt8(bytes.readUInt8(20) ^ 1, 20)
  await chmod(path, 0o600)
  await writeFile(path, bytes)
}

beforeAll(async () => {
  bench = await makeBench()
  const two = await backUp('two', '--tag', 'b')
  const one = await backUp('one', '--tag', 'a,b')
  ids.one = one.id
  ids.two = two.id
  packs = one.packs.length + two.packs.length
  damaged = two.packs.find(({ blobs }) => blobs.every(({ type }) => type === 'data'))?.id ?? expect.fail()
  await flip(damaged)
})
afterAll(() => bench.remove())

const summary = async (...args: readonly string[]) => {
  const { code, stdout } = await bench.ours('check', '--json', ...args)
  return { code, ...Object(linesOf(stdout).at(-1)) }
}

describe('check of some snapshots', () => {
  test('finds what they need', async () => {
    const path = join(bench.directory, 'two')
    for (const choice of [[ids.two.slice(0, 8)], ['-H', 'two'], ['latest', '--path', path], ['--tag', 'b']]) {
      const found = await bench.ours('check', '--read-data', ...choice)
      expect(found.code, choice.join(' ')).toBe(1)
      expect(found.stderr).toContain(damaged)
    }
    expect(await bench.ours('check', ids.two)).toMatchObject({ code: 0 })
  })

  test('finds nothing else', async () => {
    for (const choice of [[ids.one], [ids.one.slice(0, 8)], ['latest'], ['--tag', 'a']]) {
      const sound = await bench.ours('check', '--read-data', ...choice)
      expect(sound, choice.join(' ')).toMatchObject({ code: 0, stderr: '' })
      expect(sound.stdout).toMatch(/^checked 1 chosen snapshot, \d trees?, \d packs; read 2 of them, /)
      expect(sound.stdout).toContain('no errors were found')
    }
  })

  test.skipIf(!hasRestic)('and of all, as restic, ends with 1 where anything is wrong [needs restic]', async () => {
    const whole = await bench.ours('check', '--read-data')
    expect(whole.stdout).toMatch(/^checked 2 snapshots, [\s\S]*\n1 error found\n/)
    expect(whole.code).toBe(1)
    expect(await bench.restic('check')).toContain('no errors were found')
    const stderr = expect.stringContaining(damaged)
    await expect(bench.restic('check', '--read-data')).rejects.toMatchObject({ code: whole.code, stderr })
  })

  test('has restic’s JSON', async () => {
    const shape = { message_type: 'summary', suggest_repair_index: false, suggest_prune: false, snapshots: 1, packs }
    expect(await summary('--read-data', ids.two)).toMatchObject({
      ...shape,
      code: 1,
      num_errors: 1,
      broken_packs: [damaged],
    })
    const sound = { ...shape, code: 0, num_errors: 0, broken_packs: null }
    expect(await summary('--read-data', ids.one)).toMatchObject({ ...sound, packs_read: 2 })
    expect(await summary(ids.one)).toMatchObject({ ...sound, packs_read: 0 })
  })

  test('chooses a part of the data among their packs', async () => {
    expect(await summary('--read-data-subset', '100%', ids.one)).toMatchObject({ code: 0, packs_read: 2 })
    expect(await summary('--read-data-subset', '50%', '--host', 'one')).toMatchObject({ code: 0, packs_read: 1 })
    expect(await summary('--read-data-subset', '1/1', ids.two)).toMatchObject({ code: 1, packs_read: 2 })
    const budget = await summary('--read-data-budget', '100%', ids.one)
    expect(budget).toMatchObject({ code: 0, packs_read: 2, coverage: { packs } })
    expect(await bench.ours('check', '--read-data-subset', '0%', ids.one)).toMatchObject({ code: 2, stdout: '' })
  })

  test('of one that is not there is a failure, of none that matches is not', async () => {
    const absent = await bench.ours('check', '0'.repeat(64))
    expect(absent).toMatchObject({ code: 1, stdout: '' })
    expect(absent.stderr).toContain('error[snapshot_absent]')
    expect((await bench.ours('check', 'latest', '--tag', 'nobody-has-it')).code).toBe(1)
    const { code, stdout, stderr } = await bench.ours('check', '--json', '0'.repeat(64))
    expect(code).toBe(1)
    expect(linesOf(stdout)).toEqual([
      { message_type: 'summary', num_errors: 1, broken_packs: null, suggest_repair_index: false, suggest_prune: false },
    ])
    expect(linesOf(stderr)).toMatchObject([{ message_type: 'exit_error', code: 1, error: { code: 'snapshot_absent' } }])
    const none = { code: 0, num_errors: 0, snapshots: 0, packs_read: 0 }
    expect(await summary('--read-data', '--tag', 'nobody-has-it')).toMatchObject(none)
    expect(await bench.ok('check', '--tag', 'nobody-has-it')).toContain('checked 0 chosen snapshots, 0 trees,')
  })

  test('takes the host of the environment, unless another is named', async () => {
    process.env['RESTIC_HOST'] = 'one'
    try {
      expect(await summary('--read-data')).toMatchObject({ code: 0, snapshots: 1 })
      expect(await summary('--read-data', '--host', 'two')).toMatchObject({ code: 1, snapshots: 1 })
      expect(await summary('--read-data', '--host', '')).toMatchObject({ code: 1, snapshots: 2 })
    } finally {
      delete process.env['RESTIC_HOST']
    }
  })
})
