/** A process killed at any moment of a save, and a disk that is full: what was listed stays whole. */
import { execFileSync, spawn } from 'node:child_process'
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type BlobStore, listAll } from '../blob/blob-store.ts'
import { type MemoryObjects, openMemoryStore } from '../blob/memory-store.ts'
import { initRepository, openRepository } from '../repository.ts'
import {
  clock,
  entropy,
  fingerprint,
  hasTool,
  newRepository,
  password,
  reopen,
  restic,
  scratch,
  scryptCost,
  seeded,
  takeSnapshot,
  world,
} from '../testing/testbed.ts'

const seed = 20261121
const random = seeded(seed)
const child = fileURLToPath(new URL('../testing/save-forever.ts', import.meta.url))

/** Starts a child that takes snapshots without end; resolves with what it says first. */
async function killedSave(path: string, source: string, afterMs: number): Promise<void> {
  const saving = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', child, path, source], {
    env: { ...process.env, SAVE_PASSWORD: password },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = new Promise((resolve) => saving.on('exit', resolve))
  await new Promise<void>((resolve, reject) => {
    saving.stdout.once('data', () => resolve())
    saving.once('exit', () => reject(new Error('the child ended before it began to save')))
  })
  await new Promise((resolve) => setTimeout(resolve, afterMs))
  saving.kill('SIGKILL')
  await ended
}

describe(`a save that is killed, seed ${seed}`, () => {
  test('leaves listed snapshots whole, a lock known to be stale, and the next save works', async () => {
    const home = await scratch()
    const path = join(home, 'repository')
    const source = join(home, 'source')
    await mkdir(source)
    for (let file = 0; file < 6; file += 1) await writeFile(join(source, `${file}`), random.bytes(3_000_000))
    const repository = await newRepository(path)
    const first = await takeSnapshot(repository, source)
    let locksLeft = 0
    for (let turn = 0; turn < 6; turn += 1) {
      await killedSave(path, source, random.below(250))
      locksLeft += (await readdir(join(path, 'locks'))).length
      const after = await reopen(path)
      const report = await after.check({ readData: true, exclusive: true })
      expect(report.problems).toEqual([])
      expect(await readdir(join(path, 'locks'))).toEqual([])
    }
    expect(locksLeft).toBeGreaterThan(0)
    const last = await takeSnapshot(await reopen(path), source)
    const { tree } = await repository.findSnapshot(last.id)
    await repository.loadDirectory(tree, join(home, 'restored'))
    expect(await fingerprint(join(home, 'restored', 'files'))).toEqual(await fingerprint(source))
    if (hasTool('restic')) expect(await restic(path, 'check', '--read-data')).toContain('no errors were found')
    await repository.deleteSnapshot(first.id)
    const leftovers = execFileSync('find', [path, '-name', '*-tmp-*'], { encoding: 'utf8' })
    expect(leftovers).toBe('')
  })
})

describe('a crash after each single write', () => {
  test('of two takes and a deletion: opens, is whole, keeps what was listed, and goes on', async () => {
    const states: MemoryObjects[] = []
    const objects: MemoryObjects = new Map()
    const plain = openMemoryStore(objects)
    const recording: BlobStore = {
      ...plain,
      async put(object, bytes) {
        const outcome = await plain.put(object, bytes)
        states.push(new Map(objects))
        return outcome
      },
      async delete(object) {
        await plain.delete(object)
        states.push(new Map(objects))
      },
    }
    await initRepository({ store: recording, password, entropy, clock, scryptCost })
    const repository = await openRepository({ store: recording, password, ...world })
    const begun = states.length
    const take = async (bytes: Buffer) => {
      const save = await repository.startSave()
      const saved = await save.saveBytes(bytes)
      const tree = await save.saveTree([{ name: 'f', type: 'file', ...saved }])
      await save.finish()
      return repository.seal({ time: 1n, paths: ['/f'], hostname: 'h', username: 'u', trees: { f: tree } })
    }
    const first = await take(random.bytes(40 << 20))
    const firstSealed = states.length
    await take(random.bytes(1000))
    await repository.deleteSnapshot(first)
    let orphans = 0
    for (const [at, state] of states.entries()) {
      if (at < begun - 1) continue
      const store = openMemoryStore(state)
      for (const { name } of await listAll(store, 'lock')) state.delete(`lock/${name}`) // of a process that is dead
      const after = await openRepository({ store, password, ...world })
      const { problems, unreferencedPacks, snapshots } = await after.check({ readData: at === states.length - 1 })
      expect(problems).toEqual([])
      orphans += unreferencedPacks.length
      if (at >= firstSealed) expect(snapshots).toBeGreaterThan(0)
      await (await after.startSave()).discard()
    }
    expect(states.length).toBeGreaterThan(12)
    expect(orphans).toBeGreaterThan(0)
  })
})

function canMount(): boolean {
  if (process.getuid?.() !== 0 || process.platform !== 'linux') return false
  try {
    execFileSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'], { stdio: 'ignore' })
    return true
  } catch {
    return false // a container without the right to mount
  }
}

describe.skipIf(!canMount())('a full disk [needs root that may mount]', () => {
  test('fails with no_space, and is whole when there is room again', async () => {
    const home = await scratch()
    const disk = join(home, 'disk')
    const source = join(home, 'source')
    await mkdir(disk)
    await mkdir(source)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', disk])
    onTestFinished(() => void execFileSync('umount', [disk]))
    await writeFile(join(source, 'small'), random.bytes(1_000_000))
    const path = join(disk, 'repository')
    const repository = await newRepository(path)
    const first = await takeSnapshot(repository, source)
    await writeFile(join(source, 'large'), random.bytes(80_000_000))
    await expect(takeSnapshot(repository, source)).rejects.toMatchObject({
      code: 'no_space',
      message: expect.stringContaining(path),
      retry: 'later',
    })
    expect((await repository.check({ readData: true })).problems).toEqual([])
    expect((await repository.snapshots()).map((snapshot) => snapshot.id)).toEqual([first.id])
    await rm(join(source, 'large'))
    await takeSnapshot(repository, source)
    expect(await repository.snapshots()).toHaveLength(2)
    // Restoring into a disk that is full says so, too.
    const { tree } = await repository.findSnapshot('latest')
    await writeFile(join(disk, 'filler'), random.bytes(30_000_000)).catch(() => {}) // as much as there is room for
    const restoring = repository.loadDirectory(tree, join(disk, 'restored'))
    await expect(restoring).rejects.toMatchObject({ code: 'no_space' })
  })
})
