/**
 * Fifty rounds by chance from a seed, in which the real restic and we work on one repository in turns, in a directory.
 * The same on other backends: round-trip-s3.test.ts, and packages/stillpoint/src/vault/vault-round-trip.test.ts.
 *
 * Other rounds: ROUND_TRIP_SEED=… vitest run round-trip
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { openLocalStore } from '../blob/local-store.ts'
import { fastScratch } from './places.ts'
import { canRestic, restic, resticNames } from './restic.ts'
import { roundTrips } from './round-trip.ts'

const seed = Number(process.env['ROUND_TRIP_SEED'] ?? 20261121)
const rounds = 50

test.skipIf(!canRestic)(
  `${rounds} rounds of seed ${seed} in a directory [needs ${resticNames}]`,
  async () => {
    const scratch = await fastScratch()
    onTestFinished(() => scratch[Symbol.asyncDispose]())
    const path = join(scratch.path, 'repository')
    const home = join(scratch.path, 'home')
    await mkdir(home)
    const counts = await roundTrips({
      place: {
        home,
        openStore: async () => openLocalStore(path),
        restic: (args, options) => restic(path, args, options),
      },
      seed,
      rounds,
    })
    console.log(`directory, seed ${seed}: ${[...counts].map(([name, count]) => `${name} ${count}`).join(', ')}`)
    expect([...counts.values()].reduce((sum, count) => sum + count, 0)).toBe(rounds)
    expect(counts.size).toBeGreaterThan(8)
  },
  300_000,
)
