import { spawn } from 'node:child_process'
import { readdir, rm } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { Failure, isFailure } from '@stillpoint/core/kernel'
import { restics } from '@stillpoint/testbed'
import { describe, expect, test } from 'vitest'
import { encodeLock, type LockRecord } from '../format/lock-file.ts'
import { clock, newRepository, newVault, reopen, resticOf, scratch } from '../testing/testbed.ts'
import { type Vault, writeDocument } from '../vault.ts'
import { createLockKeeper, lockStaleMs } from './lock.ts'

const now = () => BigInt(Date.now()) * 1_000_000n
const elsewhere: LockRecord = {
  time: 0n,
  exclusive: true,
  hostname: 'elsewhere',
  username: 'somebody',
  pid: 4711,
  uid: 0,
  gid: 0,
}
const locksOf = (path: string) => readdir(join(path, 'locks'))

async function deadPid(): Promise<number> {
  const child = spawn('true')
  await new Promise((resolve) => child.on('exit', resolve))
  return child.pid ?? 0
}

describe('locks among ourselves', () => {
  test('shared ones share, exclusive ones do not, all are removed', async () => {
    const path = join(await scratch(), 'repository')
    const [one, two] = [await newRepository(path), await reopen(path)]
    await one.withLock('shared', async () => {
      await two.withLock('shared', async () => {
        expect(await locksOf(path)).toHaveLength(2)
        for (const repository of [one, two]) {
          const exclusive = repository.withLock('exclusive', async () => 'never')
          await expect(exclusive).rejects.toMatchObject({ code: 'repository_locked', retry: 'later' })
        }
      })
    })
    expect(await locksOf(path)).toEqual([])
    await one.withLock('exclusive', async () => {
      await expect(two.startSave()).rejects.toMatchObject({ code: 'repository_locked' })
      await expect(two.withLock('exclusive', async () => 'never')).rejects.toMatchObject({ code: 'repository_locked' })
      expect((await one.check()).problems).toEqual([])
    })
    await expect(one.withLock('shared', () => Promise.reject(new Error('broken')))).rejects.toThrow('broken')
    expect(await locksOf(path)).toEqual([])
  })

  test('of many rivals for an exclusive lock never two hold it', async () => {
    const path = join(await scratch(), 'repository')
    await newRepository(path)
    const rivals = await Promise.all(Array.from({ length: 6 }, () => reopen(path)))
    let holders = 0
    let held = 0
    for (let turn = 0; turn < 5; turn += 1) {
      await Promise.all(
        rivals.map((rival) =>
          rival
            .withLock('exclusive', async () => {
              holders += 1
              held += 1
              expect(holders).toBe(1)
              await new Promise((resolve) => setTimeout(resolve, 2))
              holders -= 1
            })
            .catch((error: unknown) => {
              if (!isFailure(error, 'repository_locked')) throw error
            }),
        ),
      )
    }
    await rivals[0]?.withLock('exclusive', async () => (held += 1))
    expect(held).toBeGreaterThan(0)
    expect(await locksOf(path)).toEqual([])
  })

  test('the holder is named, with a way out', async () => {
    const path = join(await scratch(), 'repository')
    const repository = await newRepository(path)
    await writeDocument(await newVault(path), 'lock', encodeLock({ ...elsewhere, time: now() }))
    const saving = repository.startSave()
    await expect(saving).rejects.toMatchObject({
      message: expect.stringMatching(/process 4711 of somebody on elsewhere since 20/),
      hint: expect.stringContaining('restic unlock'),
    })
    expect(await repository.unlock()).toBe(0)
    expect(await repository.unlock({ all: true })).toBe(1)
    await (await repository.startSave()).discard()
  })

  test('stale ones are recognised: old, or of a dead process of this host; young ones of other hosts are not', async () => {
    const path = join(await scratch(), 'repository')
    const repository = await newRepository(path)
    const vault = await newVault(path)
    const old = now() - BigInt(lockStaleMs + 1000) * 1_000_000n
    await writeDocument(vault, 'lock', encodeLock({ ...elsewhere, time: old }))
    await writeDocument(
      vault,
      'lock',
      encodeLock({ ...elsewhere, time: now(), hostname: hostname(), pid: await deadPid() }),
    )
    const beforeOurs = now() - BigInt(Math.round(process.uptime() * 1000) + 120_000) * 1_000_000n
    await writeDocument(
      vault,
      'lock',
      encodeLock({ ...elsewhere, time: beforeOurs, hostname: hostname(), pid: process.pid }),
    )
    await repository.withLock('exclusive', async () => expect(await locksOf(path)).toHaveLength(1))
    await writeDocument(
      vault,
      'lock',
      encodeLock({ ...elsewhere, time: now(), hostname: hostname(), pid: process.ppid }),
    )
    await expect(repository.startSave()).rejects.toMatchObject({ code: 'repository_locked' })
  })
})

/** A clock whose timers are rung by hand. */
function handClock() {
  const timers = new Set<{ atMs: number; wake: () => void }>()
  let elapsedMs = 0
  let changes = 0
  return {
    monotonicMs: () => elapsedMs,
    wallMs: () => Date.now() + elapsedMs,
    after(delayMs: number, wake: () => void) {
      const timer = { atMs: elapsedMs + delayMs, wake }
      timers.add(timer)
      changes += 1
      return () => {
        if (timers.delete(timer)) changes += 1
      }
    },
    async pass(ms: number) {
      const untilMs = elapsedMs + ms
      for (;;) {
        const next = [...timers].sort((a, b) => a.atMs - b.atMs).find((timer) => timer.atMs <= untilMs)
        if (next === undefined) break
        timers.delete(next)
        elapsedMs = next.atMs
        next.wake()
        // What was woken ends by setting its next timer or taking one back; where it does not, nothing says so.
        const before = changes
        for (let turn = 0; turn < 33 && changes === before; turn += 1) {
          await new Promise((resolve) => setTimeout(resolve, 30))
        }
      }
      elapsedMs = untilMs
    },
    get waiting() {
      return timers.size
    },
  }
}

describe('a lock that is held for long', () => {
  async function held(change: (vault: Vault) => Partial<Vault> = () => ({})) {
    const path = join(await scratch(), 'repository')
    await newRepository(path)
    const hand = handClock()
    const vault = await newVault(path)
    const keeper = createLockKeeper({ ...vault, ...change(vault), clock: hand })
    return { path, hand, keeper, lock: await keeper.acquire('exclusive') }
  }

  test('is renewed, and still removed at the end', async () => {
    const { path, hand, lock } = await held()
    const before = await locksOf(path)
    await hand.pass(5 * 60_000)
    const after = await locksOf(path)
    expect(after).toHaveLength(1)
    expect(after).not.toEqual(before)
    expect(lock.signal.aborted).toBe(false)
    await lock.release()
    expect(await locksOf(path)).toEqual([])
    expect(hand.waiting).toBe(0)
  })

  test('aborts its work when somebody removes it', async () => {
    const { path, hand, keeper, lock } = await held()
    for (const name of await locksOf(path)) await rm(join(path, 'locks', name))
    await hand.pass(5 * 60_000)
    expect(lock.signal.reason).toMatchObject({ code: 'lock_lost' })
    await lock.release()
    await keeper.withLock('exclusive', async (signal) => expect(signal.aborted).toBe(false))
  })

  test('aborts its work before others take it for stale, when it cannot be renewed', async () => {
    let broken = false
    const { path, hand, lock } = await held((vault) => ({
      store: {
        ...vault.store,
        put: async (object, bytes) => {
          if (broken) throw new Failure({ code: 'storage_failed', message: 'gone' })
          return vault.store.put(object, bytes)
        },
      },
    }))
    broken = true
    await hand.pass(15 * 60_000)
    expect(lock.signal.aborted).toBe(false)
    await hand.pass(10 * 60_000)
    expect(lock.signal.reason).toMatchObject({ code: 'lock_lost' })
    await lock.release()
    expect(await locksOf(path)).toEqual([])
  }, 20_000)

  test('aborts its work before others take it for stale, when the storage does not answer', async () => {
    const silence = Promise.withResolvers<void>()
    let isSilent = false
    const { path, hand, lock } = await held((vault) => ({
      store: {
        ...vault.store,
        size: async (object) => {
          if (isSilent) await silence.promise
          return vault.store.size(object)
        },
      },
    }))
    isSilent = true
    await hand.pass(19 * 60_000)
    expect(lock.signal.aborted).toBe(false)
    await hand.pass(2 * 60_000)
    expect(lock.signal.reason).toMatchObject({ code: 'lock_lost' })
    silence.resolve()
    await lock.release()
    expect(await locksOf(path)).toEqual([])
    expect(hand.waiting).toBe(0)
  }, 20_000)
})

describe('waiting for a lock', () => {
  test('ends when it is free, when the time is over, and when it is aborted', async () => {
    const path = join(await scratch(), 'repository')
    const rival = await (await newRepository(path)).startSave()
    const vault = await newVault(path)
    const short = createLockKeeper(vault, { waitMs: 30 })
    await expect(short.acquire('exclusive')).rejects.toMatchObject({ code: 'repository_locked' })
    const controller = new AbortController()
    const long = createLockKeeper(vault, { waitMs: 60_000, signal: controller.signal })
    const free = long.acquire('exclusive')
    await new Promise((resolve) => setTimeout(resolve, 50))
    await rival.discard()
    const lock = await free
    const third = createLockKeeper(vault, { waitMs: 60_000, signal: controller.signal })
    const never = third.acquire('shared')
    controller.abort(new Failure({ code: 'interrupted', message: 'Interrupted' }))
    await expect(never).rejects.toMatchObject({ code: 'interrupted' })
    await lock.release()
    expect(await locksOf(path)).toEqual([])
  })
})

for (const program of restics)
  describe.skipIf(!program.isHere)(`locks between ${program.name} and us [needs ${program.name}]`, () => {
    const restic = resticOf(program)
    test('restic honours ours', async () => {
      const path = join(await scratch(), 'repository')
      const repository = await newRepository(path)
      await repository.withLock('exclusive', async () => {
        await expect(restic(path, 'check')).rejects.toMatchObject({ stderr: expect.stringContaining('already locked') })
      })
      const save = await repository.startSave()
      await expect(restic(path, 'prune')).rejects.toMatchObject({ stderr: expect.stringContaining('already locked') })
      await save.discard()
      expect(await restic(path, 'prune')).toContain('done')
    })

    test('we honour those of restic', async () => {
      const home = await scratch()
      const path = join(home, 'repository')
      const repository = await newRepository(path)
      // A backup from a pipe that does not end holds its shared lock.
      const backup = spawn(program.command, ['--repo', path, '--no-cache', 'backup', '--stdin'], {
        env: { ...process.env, RESTIC_PASSWORD: 'correct horse' },
        stdio: ['pipe', 'ignore', 'inherit'],
      })
      const ended = new Promise((resolve) => backup.on('exit', resolve))
      try {
        const deadline = clock.monotonicMs() + 10_000
        while ((await locksOf(path)).length === 0 && clock.monotonicMs() < deadline) {
          await new Promise((resolve) => setTimeout(resolve, 20))
        }
        await expect(repository.withLock('exclusive', async () => 'never')).rejects.toMatchObject({
          code: 'repository_locked',
          message: expect.stringContaining(`process ${backup.pid}`),
        })
        await repository.withLock('shared', async () => 'beside it')
      } finally {
        backup.kill('SIGKILL')
        await ended
      }
      expect(await locksOf(path)).toHaveLength(1)
      await repository.withLock('exclusive', async () => 'the dead one is stale')
      expect(await locksOf(path)).toEqual([])
    })
  })
