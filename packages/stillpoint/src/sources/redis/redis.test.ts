import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readlink } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { freePort, hasTool, startRedis } from '@stillpoint/testbed'
import { afterEach, describe, expect, test } from 'vitest'
import { type MemoryParts, MemorySink } from '../memory-parts.ts'
import type { Parts, SourceSession } from '../source.ts'
import { redisOptions } from './redis.ts'
import { type Bench, never, newCut, password, startBench, startWriters } from './workbench.ts'

async function capture(session: SourceSession): Promise<MemoryParts> {
  const cut = newCut()
  await session.prepare(cut, never)
  await session.quiesce(cut, 5000, never)
  await session.mark(cut, never)
  expect(await session.resume(cut)).toEqual({ unbroken: true })
  const sink = new MemorySink()
  await session.capture(cut, sink, never)
  await session.release(cut)
  return sink.parts()
}

/** The RDB files of a server that this process has open, deleted ones too. */
async function openDumps(directory: string): Promise<readonly string[]> {
  const links = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''))
  return (await Promise.all(links)).filter((path) => path.startsWith(directory))
}

function cutShort(parts: Parts, name: string, bytes: number): Parts {
  return {
    names: () => parts.names(),
    directory: parts.directory.bind(parts),
    entries: parts.entries.bind(parts),
    async *file(asked, signal) {
      for await (const chunk of parts.file(asked, signal)) {
        yield asked === name ? chunk.subarray(0, bytes) : chunk
        if (asked === name) return
      }
    },
  }
}

describe('options of Redis', () => {
  test('a password in the URL is refused and not shown', () => {
    const parsed = redisOptions.safeParse({ url: 'redis://me:hunter2@cache.example' })
    expect(JSON.stringify(parsed.error)).toContain('passwordFile')
    expect(JSON.stringify(parsed.error)).not.toContain('hunter2')
  })
  test.each([
    [{ url: 'redis://cache.example/3' }, 'all databases'],
    [{ url: 'http://cache.example' }, 'redis://'],
    [{ url: 'redis://cache.example', port: 1 }, 'either url'],
    [{ hots: 'x' }, 'hots'],
  ])('%o is refused: %s', (options, words) => {
    expect(JSON.stringify(redisOptions.safeParse(options).error)).toContain(words)
  })
})

describe.skipIf(!hasTool('redis-server'))('Redis, cut and restored [needs redis-server]', () => {
  const benches: Bench[] = []
  const start = async (...args: string[]) => {
    const bench = await startBench(args)
    benches.push(bench)
    return bench
  }
  afterEach(async () => {
    await Promise.all(benches.splice(0).map((bench) => bench.stop()))
  })

  test('the hold is had quickly under 8 writers', async () => {
    const bench = await start()
    const session = await bench.open()
    const load = await startWriters(bench.server, 8)
    const acquiredMs: number[] = []
    try {
      for (let round = 0; round < 20; round++) {
        const cut = newCut()
        await session.prepare(cut, never)
        const begin = performance.now()
        await session.quiesce(cut, 5000, never)
        acquiredMs.push(performance.now() - begin)
        expect(await session.resume(cut)).toEqual({ unbroken: true })
        await session.release(cut)
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
    } finally {
      await load.stop()
    }
    acquiredMs.sort((a, b) => a - b)
    console.log(
      `hold under 8 writers: median ${acquiredMs[10]?.toFixed(1)} ms, worst of 20 ${acquiredMs[19]?.toFixed(1)} ms, ${load.acknowledged().length} writes`,
    )
    expect(Number(await bench.client.get('count'))).toBe(load.acknowledged().length)
  })

  test.each(['SIGKILL', 'SIGSTOP'] as const)('the hold ends at its lease when the holder gets %s', async (signal) => {
    const bench = await start()
    const fixture = fileURLToPath(new URL('./holder.fixture.ts', import.meta.url))
    const child = spawn(process.execPath, [fixture, String(bench.server.port), password, '600'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    try {
      await once(child.stdout, 'data')
      const heldMs = performance.now()
      child.kill(signal)
      await bench.client.set('a', '1')
      const freeMs = performance.now() - heldMs
      expect(freeMs).toBeGreaterThan(200)
      expect(freeMs).toBeLessThan(2600)
    } finally {
      child.kill('SIGKILL')
    }
  })

  test('a pause that somebody else ends is broken by the first write, and only by that', async () => {
    const bench = await start()
    const session = await bench.open()
    const [quiet, loud] = [newCut(), newCut()]
    await session.quiesce(quiet, 5000, never)
    await bench.client.client('UNPAUSE')
    expect((await session.resume(quiet)).unbroken).toBe(true)
    await session.quiesce(loud, 5000, never)
    await session.mark(loud, never)
    await bench.client.client('UNPAUSE')
    await bench.client.set('a', '1')
    expect(await session.resume(loud)).toMatchObject({ unbroken: false, detail: expect.stringContaining('1 changes') })
  })

  test('databases, types, times to live, streams with groups, functions', async () => {
    const bench = await start()
    const c = bench.client
    await c.call('FUNCTION', 'LOAD', `#!lua name=lib\nredis.register_function('one', function() return 1 end)`)
    await c.mset('plain', 'x', 'binary', Buffer.from([0, 255, 10, 13]), 'number', '12')
    await c.rpush('list', ...Array.from({ length: 300 }, (_, n) => `item ${n}`))
    await c.sadd('set', 'a', 'b', '7')
    await c.hset('hash', 'f', 'v', 'g', 'w')
    await c.zadd('scores', 1.5, 'one', -2, 'two')
    await c.xadd('stream', '1-1', 'k', 'v')
    await c.xgroup('CREATE', 'stream', 'readers', '0')
    await c.xreadgroup('GROUP', 'readers', 'me', 'COUNT', 1, 'STREAMS', 'stream', '>')
    await c.set('long', 'x', 'PX', 3_600_000)
    await c.set('brief', 'x', 'PX', 400)
    await c.select(9)
    await c.set('elsewhere', 'y')
    const session = await bench.open()
    const parts = await capture(session)
    const target = await start()
    const restored = await target.open()
    await restored.restore(parts, { replace: false }, never)
    await new Promise((resolve) => setTimeout(resolve, 450))
    expect((await restored.verify(parts, never)).checks.filter((each) => !each.passed)).toEqual([])
    expect(await target.client.call('FCALL', 'one', 0)).toBe(1)
    expect(await target.client.get('brief')).toBe(null)
    expect(await target.client.pexpiretime('long')).toBe(await c.select(0).then(() => c.pexpiretime('long')))
    expect(await target.client.xpending('stream', 'readers')).toMatchObject([1, '1-1', '1-1', [['me', '1']]])
    await target.client.select(9)
    expect(await target.client.get('elsewhere')).toBe('y')
    // A replica no more, with no password for masters left.
    expect(await target.client.info('replication')).toContain('role:master')
    expect(await target.client.config('GET', 'masterauth')).toEqual(['masterauth', ''])
    await target.client.set('elsewhere', 'changed')
    const failed = (await restored.verify(parts, never)).checks.filter((each) => !each.passed)
    expect(failed.map((each) => each.name)).toEqual(['contents of db9'])
    expect((await readdir(target.scratchDir)).filter((name) => name.startsWith('redis-'))).toEqual([])
  })

  test('an empty server', async () => {
    const bench = await start()
    const parts = await capture(await bench.open())
    const target = await start()
    const restored = await target.open()
    await restored.restore(parts, { replace: false }, never)
    expect((await restored.verify(parts, never)).checks.every((each) => each.passed)).toBe(true)
  })

  test('a save that runs already is waited for, and refused when it takes too long', async () => {
    const bench = await start()
    for (let n = 0; n < 100; n++) await bench.client.set(`k${n}`, 'v')
    await bench.client.config('SET', 'rdb-key-save-delay', '8000')
    const session = await bench.open()
    await bench.client.bgsave()
    const [short, long] = [newCut(), newCut()]
    await expect(session.quiesce(short, 200, never)).rejects.toMatchObject({ code: 'hold_unavailable', retry: 'later' })
    await session.resume(short)
    await bench.client.set('free', '1')
    await session.quiesce(long, 4000, never)
    expect((await session.resume(long)).unbroken).toBe(true)
  })

  test('saves that come later do not change what is captured', async () => {
    const bench = await start()
    await bench.client.set('a', 'at the mark')
    const session = await bench.open()
    const cut = newCut()
    await session.quiesce(cut, 5000, never)
    await session.mark(cut, never)
    await session.resume(cut)
    await expect.poll(async () => bench.client.info('persistence')).toContain('rdb_bgsave_in_progress:0')
    await new Promise((resolve) => setTimeout(resolve, 150))
    await bench.client.set('a', 'later')
    await bench.client.save()
    const sink = new MemorySink()
    await session.capture(cut, sink, never)
    const target = await start()
    await (await target.open()).restore(sink.parts(), { replace: false }, never)
    expect(await target.client.get('a')).toBe('at the mark')
  })

  test.skipIf(process.platform !== 'linux')(
    'a closed session keeps no file open, whatever was not released',
    async () => {
      const bench = await start()
      const session = await bench.open()
      for (const cut of [newCut(), newCut()]) {
        await session.mark(cut, never)
        await session.capture(cut, new MemorySink(), never)
      }
      expect(await openDumps(bench.server.dataDir)).toHaveLength(2)
      await session.close()
      expect(await openDumps(bench.server.dataDir)).toEqual([])
    },
  )

  test('a FLUSHALL ends a save that is under way: the mark is lost, and never taken from an older file', async () => {
    const bench = await start()
    for (let n = 0; n < 50; n++) await bench.client.set(`k${n}`, 'v')
    const session = await bench.open()
    for (const older of [false, true]) {
      if (older) await bench.client.save()
      await bench.client.config('SET', 'rdb-key-save-delay', '20000')
      const cut = newCut()
      await session.quiesce(cut, 5000, never)
      await session.mark(cut, never)
      expect((await session.resume(cut)).unbroken).toBe(true)
      await bench.client.flushall()
      await expect(session.capture(cut, new MemorySink(), never)).rejects.toMatchObject({
        code: older ? 'mark_lost' : expect.stringMatching(/^(mark_lost|store_not_local)$/),
        retry: 'later',
      })
      await session.release(cut)
      await bench.client.config('SET', 'rdb-key-save-delay', '0')
      for (let n = 0; n < 50; n++) await bench.client.set(`k${n}`, 'v')
    }
  })

  test('a server that is killed while it saves leaves no mark', async () => {
    const bench = await start()
    for (let n = 0; n < 50; n++) await bench.client.set(`k${n}`, 'v')
    const session = await bench.open()
    const cut = newCut()
    await session.mark(cut, never)
    await bench.client.config('SET', 'rdb-key-save-delay', '20000')
    const other = newCut()
    await expect.poll(async () => bench.client.info('persistence')).toContain('rdb_bgsave_in_progress:0')
    await session.mark(other, never)
    await bench.server.kill()
    await expect(session.capture(other, new MemorySink(), never)).rejects.toMatchObject({
      name: 'Failure',
      retry: 'later',
    })
  })

  test('a target with content is refused; replaced; and keeps its data when the snapshot is damaged', async () => {
    const bench = await start()
    for (let n = 0; n < 500; n++) await bench.client.set(`k${n}`, `value ${n}`)
    const parts = await capture(await bench.open())
    const target = await start('--appendonly', 'yes', '--save', '3600 1')
    await target.client.set('precious', '42')
    const restored = await target.open()
    await expect(restored.checkTarget(parts, { replace: false }, never)).rejects.toMatchObject({
      code: 'target_not_empty',
    })
    await expect(restored.restore(cutShort(parts, 'dump.rdb', 400), { replace: true }, never)).rejects.toMatchObject({
      code: 'rdb_damaged',
    })
    await expect(
      restored.restore(cutShort(parts, 'manifest.json', 20), { replace: true }, never),
    ).rejects.toMatchObject({ code: 'part_damaged' })
    expect(await target.client.get('precious')).toBe('42')
    await restored.restore(parts, { replace: true }, never)
    expect(await target.client.get('precious')).toBe(null)
    // What was restored is on its disk, too.
    await target.server.kill()
    await target.server.restart()
    expect(await target.client.dbsize()).toBe(500)
    expect((await restored.verify(parts, never)).checks.every((each) => each.passed)).toBe(true)
  })

  test('a target that cannot hold it is refused before it is touched', async () => {
    const bench = await start()
    await bench.client.set('big', 'x'.repeat(3 << 20))
    await bench.client.select(12)
    await bench.client.set('a', '1')
    const parts = await capture(await bench.open())
    const [few, small] = [await start('--databases', '4'), await start('--maxmemory', '3mb')]
    const code = 'target_too_small'
    await expect((await few.open()).restore(parts, { replace: false }, never)).rejects.toMatchObject({
      code,
      message: expect.stringContaining('4 databases'),
    })
    await expect((await small.open()).restore(parts, { replace: false }, never)).rejects.toMatchObject({
      code,
      message: expect.stringContaining('maxmemory'),
    })
    expect(await small.client.info('replication')).toContain('role:master')
  })

  test('privileges: each missing command is named, and the documented ones suffice', async () => {
    const bench = await start()
    const allowed = ['ping', 'info', 'time', 'bgsave', 'client|pause', 'client|unpause', 'config|get', 'command|info']
    for (const command of ['bgsave', 'client|pause', 'config|get', 'info']) {
      const rules = allowed.filter((each) => each !== command).map((each) => `+${each}`)
      await bench.client.call('ACL', 'SETUSER', 'keeper', 'reset', 'on', '>secret', '+acl|dryrun', ...rules)
      await expect(bench.open({ user: 'keeper' }, 'secret')).rejects.toMatchObject({
        code: 'store_privilege_missing',
        hint: expect.stringContaining(`+${command}`),
      })
    }
    await bench.client.call('ACL', 'SETUSER', 'keeper', 'reset', 'on', '>secret', ...allowed.map((each) => `+${each}`))
    await bench.client.xadd('stream', '1-1', 'k', 'v')
    const parts = await capture(await bench.open({ user: 'keeper' }, 'secret'))
    expect(parts.names()).toEqual(['dump.rdb', 'manifest.json'])
    const restoring = 'replicaof config|set function|list function|dump select scan type pexpiretime get lrange'
    const reading = 'smembers hgetall zrange xrange xinfo|stream dump'
    const target = await start()
    const rules = [...allowed, ...restoring.split(' '), ...reading.split(' ')].map((each) => `+${each}`)
    await target.client.call('ACL', 'SETUSER', 'keeper', 'reset', 'on', '>secret', '~*', ...rules)
    const restored = await target.open({ user: 'keeper' }, 'secret')
    await restored.restore(parts, { replace: false }, never)
    expect((await restored.verify(parts, never)).checks.every((each) => each.passed)).toBe(true)
  })

  test('what stands in the way is named', async () => {
    const bench = await start()
    await expect(bench.open({}, 'wrong')).rejects.toMatchObject({ code: 'store_refused_password' })
    await expect(bench.open({ passwordFile: undefined })).rejects.toMatchObject({ code: 'store_refused_password' })
    const port = await freePort()
    await expect(bench.open({ port })).rejects.toMatchObject({ code: 'store_unreachable', retry: 'later' })
    const blind = await bench.open({ dataDir: '/no/such/directory' })
    await expect(blind.prepare(newCut(), never)).rejects.toMatchObject({ code: 'store_not_local' })
    const misled = await bench.open({ dataDir: bench.scratchDir })
    const cut = newCut()
    await misled.mark(cut, never)
    await expect(misled.capture(cut, new MemorySink(), never)).rejects.toMatchObject({ code: 'store_not_local' })
    await using renamed = await startRedis({ password, config: ['rename-command BGSAVE ""'] })
    await expect(bench.open({ port: renamed.port })).rejects.toMatchObject({ code: 'store_command_missing' })
    await using cluster = await startRedis({ password, args: ['--cluster-enabled', 'yes'] })
    await expect(bench.open({ port: cluster.port })).rejects.toMatchObject({ code: 'store_mode_unsupported' })
    await using replica = await startRedis({ password, args: ['--replicaof', `127.0.0.1 ${port}`] })
    await expect(bench.open({ port: replica.port })).rejects.toMatchObject({ code: 'store_read_only' })
  })
})
