/** The rounds of packages/repository/src/torture/round-trip.ts on a vault: restic's REST protocol, with users. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { canRestic, restic, resticNames } from '../../../repository/src/torture/restic.ts'
import { roundTrips } from '../../../repository/src/torture/round-trip.ts'
import { startVaultBench, userPassword } from './workbench.ts'

const seed = Number(process.env['ROUND_TRIP_SEED'] ?? 20261121)
const rounds = 50

test.skipIf(!canRestic)(
  `${rounds} rounds of seed ${seed} on a vault [needs ${resticNames}]`,
  async () => {
    const bench = await startVaultBench()
    onTestFinished(() => bench[Symbol.asyncDispose]())
    const home = join(bench.directory, 'home')
    await mkdir(home)
    const path = '/alice/rounds/'
    const address = new URL(bench.url(path))
    address.username = 'alice'
    address.password = encodeURIComponent(userPassword)
    const counts = await roundTrips({
      place: {
        home,
        openStore: () => bench.store(path),
        restic: (args, options) => restic(`rest:${address.href}`, args, options),
      },
      seed,
      rounds,
    })
    console.log(`vault, seed ${seed}: ${[...counts].map(([name, count]) => `${name} ${count}`).join(', ')}`)
    expect([...counts.values()].reduce((sum, count) => sum + count, 0)).toBe(rounds)
  },
  300_000,
)
