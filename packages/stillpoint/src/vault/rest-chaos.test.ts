/** A whole repository over connections that break at random places, from a seed: nothing is lost, and nothing doubled. */
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Random } from '@stillpoint/core/kernel'
import { initRepository, openLocalStore, openRepository, openRestStore, retryingStore } from '@stillpoint/repository'
import { startBreakingProxy } from '@stillpoint/testbed'
import { describe, expect, test } from 'vitest'
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

describe('over a network that breaks', () => {
  test.each([1, 2, 3])('seed %i', async (seed) => {
    await using bench = await startVaultBench()
    const random = seeded(seed)
    const port = Number(new URL(bench.url('/')).port)
    await using proxy = await startBreakingProxy({ port, random, bytesMax: 700_000 })
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
