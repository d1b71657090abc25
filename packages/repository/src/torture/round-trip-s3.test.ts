/** The rounds of round-trip.test.ts on S3: a Swift of Debian's packages with its S3 protocol. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { hasSwift } from '@stillpoint/testbed'
import { expect, onTestFinished, test } from 'vitest'
import { retryingStore } from '../blob/retrying.ts'
import { startSwiftPlace } from '../blob/s3-testbed.ts'
import { clock, seeded } from '../testing/world.ts'
import { fastScratch } from './places.ts'
import { canRestic, restic, resticNames } from './restic.ts'
import { roundTrips } from './round-trip.ts'

const seed = Number(process.env['ROUND_TRIP_SEED'] ?? 20261121)
const rounds = 50

test.skipIf(!canRestic || !hasSwift())(
  `${rounds} rounds of seed ${seed} on S3 [needs ${resticNames}, python3-swift]`,
  async () => {
    const scratch = await fastScratch()
    onTestFinished(() => scratch[Symbol.asyncDispose]())
    const place = await startSwiftPlace()
    onTestFinished(() => place.stop())
    const { server: swift } = place
    const home = join(scratch.path, 'home')
    await mkdir(home)
    const path = place.newPath()
    const env = { ...swift.env, AWS_DEFAULT_REGION: swift.region }
    const url = `s3:${swift.tlsEndpoint}/${path}`
    const counts = await roundTrips({
      place: {
        home,
        openStore: async () => retryingStore(await place.open(path), { clock, random: seeded(3), pauseMs: 50 }),
        restic: (args, options) => restic(url, ['--cacert', swift.caFile, ...args], { ...options, env }),
      },
      seed,
      rounds,
    })
    console.log(`S3, seed ${seed}: ${[...counts].map(([name, count]) => `${name} ${count}`).join(', ')}`)
    expect([...counts.values()].reduce((sum, count) => sum + count, 0)).toBe(rounds)
  },
  600_000,
)
