/** A whole repository over connections that break at random places, from a seed: nothing is lost, and nothing doubled. */
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import type { Random } from '@stillpoint/core/kernel'
import { initRepository, openLocalStore, openRepository, openRestStore, retryingStore } from '@stillpoint/repository'
import { describe, expect, onTestFinished, test } from 'vitest'
import { systemClock, systemEntropy } from '../system-env.ts'
import { startVaultBench } from './workbench.ts'

/** Mulberry32: a seed is a run, as far as the network's own timing lets it be. */
function seeded(seed: number): Random {
  let state = seed >>> 0
  return {
    uint32() {
      state = (state + 0x6d2b79f5) >>> 0
      let mixed = Math.imul(state ^ (state >>> 15), state | 1)
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
      return (mixed ^ (mixed >>> 14)) >>> 0
    },
  }
}

/** Passes on bytes to a port; each connection is cut, in either direction, after a number of them. */
async function breakingProxy(port: number, random: Random): Promise<{ readonly url: string; cuts(): number }> {
  let cuts = 0
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1')
    let left = random.uint32() % 700_000
    const pass = (data: Buffer, to: typeof client) => {
      left -= data.length
      if (left > 0) return void to.write(data)
      if (!client.destroyed) cuts += 1
      // Some of it still arrives: half a request, or half an answer.
      to.write(data.subarray(0, Math.max(0, data.length + left)), () => {
        client.destroy()
        upstream.destroy()
      })
    }
    client.on('data', (data) => pass(data, upstream))
    upstream.on('data', (data) => pass(data, client))
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      one.on('error', () => {}) // followed by close
      one.on('close', () => other.destroy())
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return { url: `http://127.0.0.1:${address.port}`, cuts: () => cuts }
}

describe('over a network that breaks', () => {
  test.each([1, 2, 3])('seed %i', async (seed) => {
    await using bench = await startVaultBench()
    const random = seeded(seed)
    const proxy = await breakingProxy(Number(new URL(bench.url('/')).port), random)
    const rest = await openRestStore({ url: `${proxy.url}/alice/`, credentialsFile: await bench.credentials('alice') })
    const retry = { clock: systemClock, random, pauseMs: 2, pauseMsMax: 20, attemptsMax: 30 }
    const world = { password: 'p', clock: systemClock, entropy: systemEntropy, random }
    const store = retryingStore(rest, retry)
    await initRepository({ ...world, store, scryptCost: { n: 1024, r: 8, p: 1 } })
    const source = join(bench.directory, 'source')
    await mkdir(source)
    for (let at = 0; at < 6; at += 1) {
      const content = Buffer.alloc(300_000)
      for (let word = 0; word < content.length; word += 4) content.writeUInt32LE(random.uint32(), word)
      await writeFile(join(source, `file-${at}`), content)
      const repository = await openRepository({ ...world, store })
      const save = await repository.startSave()
      const { tree } = await save.saveDirectory(source)
      await save.finish()
      await repository.seal({
        time: BigInt(systemClock.wallMs()) * 1_000_000n,
        paths: [source],
        hostname: 'h',
        username: 'u',
        tags: [],
        trees: { files: tree },
        programVersion: 'test',
      })
    }
    expect(proxy.cuts()).toBeGreaterThan(3)
    // Seen from where it lies: whole, every snapshot, no lock left, nothing half-written.
    const local = await openRepository({ ...world, store: openLocalStore(join(bench.root, 'alice')) })
    expect(await local.snapshots()).toHaveLength(6)
    expect((await local.check({ readData: true })).problems).toEqual([])
    expect(await readdir(join(bench.root, 'alice', 'locks'))).toEqual([])
    expect(await readdir(join(bench.root, 'alice', '.uploads'))).toEqual([])
  })
})
