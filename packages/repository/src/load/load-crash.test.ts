/** A restore that is killed at any system call, or whose disk becomes full: what stands there tells, and is continued. */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { lstatSync } from 'node:fs'
import { lstat, mkdir, open, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isFailure, type TreeId } from '@stillpoint/core/kernel'
import { smallDisk } from '@stillpoint/testbed'
import { describe, expect, test } from 'vitest'
import type { Repository } from '../repository.ts'
import { fingerprint, newRepository, password, scratch, seeded, takeSnapshot } from '../testing/testbed.ts'

const seed = 20261122
const random = seeded(seed)
const points = 6
const child = fileURLToPath(new URL('../testing/restore-until.ts', import.meta.url))
const env = { ...process.env, SAVE_PASSWORD: password }

interface Bench {
  readonly home: string
  readonly source: string
  readonly repository: Repository
  readonly tree: TreeId
}

/** Every kind of entry, small files, a file of several blobs, a hole, names that are no UTF-8. */
async function bench(): Promise<Bench> {
  const home = await scratch()
  const source = join(home, 'source')
  for (const directory of ['a', 'b', 'b/c']) await mkdir(join(source, directory), { recursive: true })
  for (let file = 0; file < 24; file += 1) {
    const bytes = random.bytes(1 + random.below(20_000))
    await writeFile(join(source, ['a', 'b', 'b/c'][file % 3] ?? '', `${file}`), bytes, {
      mode: [0o644, 0o755, 0o604][file % 3] ?? 0,
    })
  }
  await writeFile(join(source, 'large'), random.bytes(9_000_000))
  await writeFile(join(source, 'empty'), '')
  const hole = await open(join(source, 'a', 'hole'), 'w')
  await hole.write(Buffer.from('end'), 0, 3, 3_000_000)
  await hole.close()
  await symlink('../large', join(source, 'b', 'link'))
  execFileSync('sh', [
    '-c',
    'cd "$0" && ln large b/second && mkfifo a/fifo "$(printf "b/fifo\\377")" && cp empty "$(printf "b/c/raw\\377")" && chmod 700 b && find . -exec touch -h -d 2020-01-01 {} +',
    source,
  ])
  const repository = await newRepository(join(home, 'repository'))
  const { saved } = await takeSnapshot(repository, source)
  return { home, source, repository, tree: saved.tree }
}

interface Killed {
  readonly target: string
  readonly overwrite: string
  readonly step: number
}

const argumentsOf = ({ home, tree }: Bench, { target, overwrite, step }: Killed, threads: number) => [
  '--disable-warning=ExperimentalWarning',
  child,
  join(home, 'repository'),
  tree,
  target,
  overwrite,
  `${step}`,
  `${threads}`,
]

function restoreUntil(bench: Bench, killed: Killed): string {
  const { signal, stdout } = spawnSync(process.execPath, argumentsOf(bench, killed, 0), { env, encoding: 'utf8' })
  if (killed.step > 0) expect(signal).toBe('SIGKILL')
  return stdout
}

/** With threads, after so many milliseconds. */
async function killAfter(bench: Bench, target: string, ms: number): Promise<void> {
  const killed = { target, overwrite: 'always', step: 0 }
  const restoring = spawn(process.execPath, argumentsOf(bench, killed, 2), {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = new Promise((resolve) => restoring.on('exit', resolve))
  await new Promise<void>((resolve, reject) => {
    restoring.stdout.once('data', () => resolve())
    restoring.once('exit', () => reject(new Error('the child ended before it began')))
  })
  await new Promise((resolve) => setTimeout(resolve, ms))
  restoring.kill('SIGKILL')
  await ended
}

async function* entriesBelow(directory: Buffer): AsyncGenerator<Buffer> {
  for (const entry of await readdir(directory, { withFileTypes: true, encoding: 'buffer' })) {
    const path = Buffer.concat([directory, Buffer.from('/'), entry.name])
    yield path
    if (entry.isDirectory()) yield* entriesBelow(path)
  }
}

/**
 * Files whose time claims that they are as in the snapshot are so; there are no other names but those that the next
 * restore removes. Returns how many claim it.
 */
async function requireHonest(source: string, target: string): Promise<number> {
  let claims = 0
  for await (const path of entriesBelow(Buffer.from(target))) {
    const original = Buffer.concat([Buffer.from(source), path.subarray(target.length)])
    if (lstatSync(original, { throwIfNoEntry: false }) === undefined) {
      expect(path.toString()).toMatch(/\/\.stillpoint-(special|attributes)-\d+/)
      continue
    }
    const [there, wanted] = [await lstat(path), await lstat(original)]
    if (!there.isFile() || there.mtimeMs !== wanted.mtimeMs) continue
    expect((await readFile(path)).equals(await readFile(original))).toBe(true)
    claims += 1
  }
  return claims
}

/** An older state of the tree: files of other lengths and contents, files missing. */
async function makeOld(target: string): Promise<void> {
  await mkdir(join(target, 'a'), { recursive: true })
  await mkdir(join(target, 'b'))
  await writeFile(join(target, 'large'), random.bytes(6_000_000))
  await writeFile(join(target, 'a', '0'), 'old')
  await writeFile(join(target, 'b', '1'), random.bytes(30_000))
  await writeFile(join(target, 'b', 'link'), 'a file where a link belongs')
}

describe(`a restore that is killed, seed ${seed}`, () => {
  for (const isOld of [false, true]) {
    test(`at system calls spread over it, ${isOld ? 'over an older state' : 'into nothing'}, is finished by the same again`, async () => {
      const all = await bench()
      const { home, source, repository, tree } = all
      const wanted = await fingerprint(source)
      const counting = join(home, 'counting')
      if (isOld) await makeOld(counting)
      const steps = Number(restoreUntil(all, { target: counting, overwrite: 'always', step: 0 }))
      expect(steps).toBeGreaterThan(100)
      expect(await fingerprint(counting)).toEqual(wanted)
      let [unfinished, claims] = [0, 0]
      for (let point = 0; point < points; point += 1) {
        const target = join(home, `killed-${point}`)
        if (isOld) await makeOld(target)
        const step = 1 + Math.floor(((point + random.below(100) / 100) / points) * steps)
        restoreUntil(all, { target, overwrite: 'always', step })
        await mkdir(target, { recursive: true })
        claims += await requireHonest(source, target)
        if (JSON.stringify(await fingerprint(target)) !== JSON.stringify(wanted)) unfinished += 1
        const overwrite = point % 2 === 0 ? 'always' : 'if-changed'
        expect(await repository.loadDirectory(tree, target, { overwrite })).toMatchObject({ problems: [], skipped: [] })
        expect(await fingerprint(target)).toEqual(wanted)
        await rm(target, { recursive: true })
      }
      expect(unfinished).toBeGreaterThanOrEqual(points - 1)
      expect(claims).toBeGreaterThan(points)
    }, 180_000)
  }

  test('in the middle of what its threads do', async () => {
    const all = await bench()
    const { home, source, repository, tree } = all
    for (const ms of [5, 40, 120]) {
      const target = join(home, `after-${ms}`)
      await killAfter(all, target, ms)
      await mkdir(target, { recursive: true })
      await requireHonest(source, target)
      await repository.loadDirectory(tree, target, { overwrite: 'if-changed' })
      expect(await fingerprint(target)).toEqual(await fingerprint(source))
    }
  })

  test('what it had under a temporary name is removed, unless its process still runs', async () => {
    const { home, source, repository, tree } = await bench()
    const target = join(home, 'target')
    const dead = spawnSync('true').pid
    await repository.loadDirectory(tree, target)
    await mkdir(join(target, 'b', `.stillpoint-attributes-${dead}-3`, 'entry'), { recursive: true })
    await writeFile(join(target, `.stillpoint-special-${dead}`), '')
    await mkdir(join(target, `.stillpoint-attributes-${process.pid}-9`))
    await writeFile(join(target, '.stillpoint-special-note'), 'of the user')
    await repository.loadDirectory(tree, target, { overwrite: 'always', dryRun: true })
    expect(await readdir(target)).toContain(`.stillpoint-special-${dead}`)
    const again = await repository.loadDirectory(tree, target, { overwrite: 'always' })
    expect(again).toMatchObject({ deleted: 0, problems: [] })
    const others = [`.stillpoint-attributes-${process.pid}-9`, '.stillpoint-special-note']
    expect((await readdir(target)).filter((name) => name.startsWith('.'))).toEqual(others)
    for (const name of others) await rm(join(target, name), { recursive: true })
    expect(await fingerprint(target)).toEqual(await fingerprint(source))
  })
})

describe('a target that becomes full', () => {
  test('ends the restore with a clear failure; with room, the same again finishes it', async ({ skip }) => {
    await using disk = await smallDisk(4 << 20)
    if (disk === undefined) return skip('this process may not mount a file system')
    const { source, repository, tree } = await bench()
    const target = join(disk.path, 'target')
    for (const onProblem of ['stop', 'continue'] as const) {
      const full = await repository
        .loadDirectory(tree, target, { overwrite: 'always', onProblem })
        .catch((error: unknown) => error)
      if (!isFailure(full, 'no_space')) throw full
      expect(full.message).toMatch(/^restoring \S+: no space is left on the device$/)
      expect(full.hint).toContain('run the same restore again')
      await requireHonest(source, target)
    }
    await disk.resize(64 << 20)
    expect(await repository.loadDirectory(tree, target, { overwrite: 'if-changed' })).toMatchObject({ problems: [] })
    expect(await fingerprint(target)).toEqual(await fingerprint(source))
  })

  test('or takes no files of that size: told, and continued elsewhere', async () => {
    const { home, source, repository, tree } = await bench()
    const target = join(home, 'target')
    const command = `trap '' XFSZ; ulimit -f 4096; exec "$0" "$@"`
    const killed = { target, overwrite: 'always', step: 0 }
    const limited = ['-c', command, process.execPath, ...argumentsOf({ home, source, repository, tree }, killed, 0)]
    const { stdout, status } = spawnSync('sh', limited, { env, encoding: 'utf8' })
    expect(status).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({
      code: 'storage_failed',
      message: expect.stringContaining('restoring large'),
    })
    await requireHonest(source, target)
    await repository.loadDirectory(tree, target, { overwrite: 'if-changed' })
    expect(await fingerprint(target)).toEqual(await fingerprint(source))
  })
})
