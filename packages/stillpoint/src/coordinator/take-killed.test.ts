import { type ChildProcess, spawn } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { isWritable, quiet, type SystemBench, startSystem } from './system-workbench.ts'

const leaseMs = 4_000
const request = { allowInconsistent: false, tags: [] }
const url = (path: string) => JSON.stringify(new URL(path, import.meta.url).href)

/** The production wiring, in a process of its own, which says each phase as it is entered. */
function startTake(bench: SystemBench): ChildProcess {
  const program = `
    import { writeSync } from 'node:fs'
    const { openLocalOperations } = await import(${url('./local-operations.ts')})
    const { loadConfig } = await import(${url('../config/load.ts')})
    const { sources } = await import(${url('../sources/registry.ts')})
    const { systemClock, systemEntropy, systemRandom } = await import(${url('../system-env.ts')})
    const optionSchemas = new Map([...sources].map(([kind, { optionsSchema }]) => [kind, optionsSchema]))
    const config = await loadConfig(${JSON.stringify(bench.config.path)}, { optionSchemas })
    const env = { clock: systemClock, random: systemRandom, entropy: systemEntropy }
    const operations = await openLocalOperations({ config, ...env })
    const onEvent = (event) => { if (event.type === 'phase') writeSync(1, event.phase + '\\n') }
    await operations.take(${JSON.stringify(request)}, { signal: AbortSignal.timeout(30_000), onEvent })
    await operations.close()
    writeSync(1, 'done\\n')`
  return spawn(process.execPath, ['--input-type=module', '--eval', program], { stdio: ['ignore', 'pipe', 'inherit'] })
}

async function killAt(child: ChildProcess, phase: string, delayMs: number): Promise<void> {
  const ended = once(child, 'exit')
  await new Promise<void>((found, failed) => {
    let text = ''
    child.stdout?.on('data', (piece: Buffer) => {
      text += piece.toString()
      if (text.includes(`${phase}\n`)) found()
    })
    child.once('exit', (code) => failed(new Error(`it ended with ${code} before ${phase}: ${text}`)))
  })
  if (delayMs > 0) await new Promise((wake) => setTimeout(wake, delayMs))
  child.kill('SIGKILL')
  await ended
}

async function writableWithin(path: string, ms: number): Promise<number> {
  const start = performance.now()
  while (!isWritable(path)) {
    if (performance.now() - start > ms) throw new Error(`still held after ${ms} ms`)
    await new Promise((wake) => setTimeout(wake, 20))
  }
  return performance.now() - start
}

describe('a take whose process is killed', () => {
  let bench: SystemBench
  let sealed = 0

  beforeAll(async () => {
    bench = await startSystem({ deadlines: `leaseMs: ${leaseMs}ms` })
    writeFileSync(join(bench.path('uploads'), 'large'), randomFillSync(Buffer.alloc(12 << 20)))
  })
  afterAll(() => bench.stop())

  const kills = [
    ['prepare', 30],
    ['quiesce', 0],
    ['mark', 0],
    ['resume', 0],
    ['capture', 0],
    ['capture', 40],
    ['seal', 0],
    ['seal', 10],
    ['release', 0],
  ] as const

  test.each(kills)(
    'C5 C6 in %s (after %i ms): no hold outlives its lease, the repository is whole',
    async (phase, delayMs) => {
      await killAt(startTake(bench), phase, delayMs)
      await writableWithin(bench.path('accounts.db'), leaseMs)
      // What the next take must clear away: the lock of a process that is no more.
      if (phase === 'capture') expect(readdirSync(join(bench.path('repository'), 'locks'))).toHaveLength(1)
      const repository = await bench.repository()
      const report = await repository.check()
      expect(report.problems).toEqual([])
      const listed = await bench.operations.list(quiet())
      const before = sealed
      expect(listed.length === before || (listed.length === before + 1 && ['seal', 'release'].includes(phase))).toBe(
        true,
      )
      if (phase === 'release') expect(listed).toHaveLength(before + 1)
      for (const { id } of listed.slice(before)) {
        expect((await bench.operations.verify(id, quiet())).passed).toBe(true)
      }
      sealed = listed.length
    },
  )

  test('the next take works, knows what became of each cut, and leaves no scratch', async () => {
    expect((await bench.catalog.openCuts('bank')).length).toBeGreaterThan(0)
    const taken = await bench.operations.take(request, quiet())
    expect(taken.verdict).toBe('consistent')
    expect(taken.epoch).toBe(kills.length + 1)
    expect(await bench.catalog.openCuts('bank')).toEqual([])
    expect(readdirSync(join(bench.config.stateDir, 'scratch', 'bank'))).toEqual([])
    const repository = await bench.repository()
    const report = await repository.check({ readData: true })
    expect(report.problems).toEqual([])
    // The locks of the killed ones are gone with them: stock restic does not wait for the dead.
    expect(readdirSync(join(bench.path('repository'), 'locks'))).toEqual([])
    for (const { id } of await bench.operations.list(quiet())) {
      expect((await bench.operations.verify(id, quiet())).passed).toBe(true)
    }
  })
})
