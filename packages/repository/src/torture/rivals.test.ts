/**
 * Several programs on one repository at once: ours and restic's writers, and both pruners between them. Locks are
 * honoured in both directions, and every snapshot that anybody was told of is there, whole.
 */
import { spawn } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isFailure } from '@stillpoint/core/kernel'
import { newestRestic, type Restic, restics } from '@stillpoint/testbed'
import { describe, expect, onTestFinished, test } from 'vitest'
import { listAll } from '../blob/blob-store.ts'
import { openLocalStore } from '../blob/local-store.ts'
import { sha256 } from '../format/ids.ts'
import { timestampFromMs } from '../format/timestamp.ts'
import { initRepository, type Repository } from '../repository.ts'
import { clock, entropy, seeded } from '../testing/world.ts'
import { readableOf } from './damage-model.ts'
import { openPlace } from './operations.ts'
import { fastScratch } from './places.ts'
import { canRestic, restic, resticFinds, resticNames } from './restic.ts'
import { passwords, scryptCheapest } from './subject.ts'

const seed = 20261121
const backupsEach = 8
const triesMax = 300

async function emptyPlace(): Promise<{ readonly home: string; readonly path: string }> {
  const scratch = await fastScratch()
  onTestFinished(() => scratch[Symbol.asyncDispose]())
  const path = join(scratch.path, 'repository')
  const store = openLocalStore(path)
  await initRepository({ store, password: passwords[0], entropy, clock, scryptCost: scryptCheapest })
  return { home: scratch.path, path }
}

function backUp(repository: Repository, cwd: string, tag: string) {
  const source = { kind: 'paths', paths: ['source'] } as const
  const settings = { hostname: 'ours', username: 'user', tags: [tag], programVersion: 'stillpoint' }
  return repository.upkeep.backup({ source, cwd, ...settings, time: timestampFromMs(clock.wallMs()) })
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** Tries again for as long as somebody else holds a lock. Returns how often that was. */
async function patiently(random: ReturnType<typeof seeded>, action: () => Promise<'done' | 'locked'>): Promise<number> {
  for (let refused = 0; refused < triesMax; refused += 1) {
    if ((await action()) === 'done') return refused
    await pause(random.below(80))
  }
  throw new Error('it never got its turn')
}

async function ourTry(action: () => Promise<unknown>): Promise<'done' | 'locked'> {
  try {
    await action()
    return 'done'
  } catch (error) {
    if (!isFailure(error, 'repository_locked')) throw error
    return 'locked'
  }
}

async function resticTry(
  path: string,
  args: readonly string[],
  options: { readonly cwd: string; readonly program?: Restic },
): Promise<'done' | 'locked'> {
  const { code, text } = await restic(path, args, options)
  if (code === 0) return 'done'
  if (!/already locked/.test(text)) throw new Error(`restic ${args.join(' ')}: ${text}`)
  return 'locked'
}

describe.skipIf(!canRestic)(`with restic at the same time [needs ${resticNames}]`, () => {
  test('locks keep out whom they must, in both directions', async () => {
    const { home, path } = await emptyPlace()
    await mkdir(join(home, 'source'))
    await writeFile(join(home, 'source', 'f'), 'content')
    const [repository, other] = [await openPlace(path), await openPlace(path)]
    await backUp(repository, home, 'first')
    const backup = ['backup', 'source']
    await repository.withLock('exclusive', async () => {
      for (const args of [backup, ['prune'], ['check']])
        expect(await resticTry(path, args, { cwd: home })).toBe('locked')
    })
    await repository.withLock('shared', async () => {
      expect(await resticTry(path, backup, { cwd: home })).toBe('done')
      for (const args of [['prune'], ['forget', 'latest'], ['check']]) {
        expect(await resticTry(path, args, { cwd: home })).toBe('locked')
      }
    })
    const env = { ...process.env, RESTIC_PASSWORD: passwords[0], RESTIC_REPOSITORY: path }
    const saving = spawn(newestRestic.command, ['--no-cache', 'backup', '--stdin'], {
      env,
      stdio: ['pipe', 'ignore', 'inherit'],
    })
    const ended = new Promise((resolve) => saving.once('exit', resolve))
    const locks = openLocalStore(path)
    while ((await listAll(locks, 'lock')).length === 0) await pause(10)
    expect(await ourTry(() => other.upkeep.prune())).toBe('locked')
    expect(await ourTry(() => other.upkeep.removeSnapshots([]))).toBe('locked')
    expect(await ourTry(() => backUp(other, home, 'beside'))).toBe('done')
    expect((await other.check({ readData: true })).problems).toEqual([])
    saving.stdin.end('the end')
    expect(await ended).toBe(0)
    expect(await ourTry(() => other.upkeep.prune())).toBe('done')
    expect(await resticFinds(path)).toEqual([])
  })

  test('four writers and two pruners lose nothing', async () => {
    const { home, path } = await emptyPlace()
    const random = seeded(seed)
    const expected = new Map<string, string>()
    let writing = 4
    const counts = { refused: 0, prunes: 0 }

    async function writer(name: string, program?: Restic): Promise<void> {
      const cwd = join(home, name)
      await mkdir(join(cwd, 'source'), { recursive: true })
      for (let turn = 0; turn < backupsEach; turn += 1) {
        // Halves that the others have, too: each may find them stored, or store them again.
        const content = Buffer.concat([seeded(turn).bytes(40_000), random.bytes(random.below(40_000))])
        await writeFile(join(cwd, 'source', 'f'), content)
        const tag = `${name}-${turn}`
        counts.refused += await patiently(random, () =>
          program === undefined
            ? ourTry(async () => backUp(await openPlace(path), cwd, tag))
            : resticTry(path, ['backup', 'source', '--tag', tag, '--force'], { cwd, program }),
        )
        expected.set(tag, sha256(content))
      }
      writing -= 1
    }

    async function pruner(prune: () => Promise<'done' | 'locked'>): Promise<void> {
      while (writing > 0) {
        if ((await prune()) === 'done') counts.prunes += 1
        await pause(10 + random.below(60))
      }
    }

    await Promise.all([
      writer('our-1'),
      writer('our-2'),
      writer('restic-1', restics[0]),
      writer('restic-2', newestRestic),
      pruner(() =>
        ourTry(async () => (await openPlace(path)).upkeep.prune({ maxUnused: { kind: 'bytes', bytes: 0 } })),
      ),
      pruner(() => resticTry(path, ['prune', '--max-unused', '0'], { cwd: home })),
    ])
    const repository = await openPlace(path)
    const readable = await readableOf(repository)
    const found = new Map<string, string | undefined>()
    for (const { id, tags } of await repository.snapshots()) found.set(tags.join(), readable.get(`${id}/source/f`))
    expect([...found].sort()).toEqual([...expected].sort())
    expect(found.size).toBe(4 * backupsEach)
    expect((await repository.check({ readData: true, exclusive: true })).problems).toEqual([])
    expect(await resticFinds(path)).toEqual([])
    console.log(
      `${found.size} snapshots, ${counts.prunes} prunes between them, ${counts.refused} times refused by a lock`,
    )
    expect(counts.prunes).toBeGreaterThan(0)
  }, 180_000)
})
