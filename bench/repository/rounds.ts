/**
 * Owns what is done in which order: in each round every engine does a step before any does the next, in an order that
 * turns from round to round, so that a machine that gets slower is no engine's loss.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type DataSet, makeData } from './data.ts'
import type { Engine, Places } from './engines.ts'
import { type Command, type Cost, measured } from './measured.ts'

export const steps = ['first backup', 'unchanged', 'changed', 'check --read-data', 'restore'] as const
export type Step = (typeof steps)[number]

export interface Sample {
  readonly data: string
  readonly engine: Engine['name']
  readonly step: Step
  readonly round: number
  readonly cost: Cost
  /** Of the source. */
  readonly dataBytes: number
  /** Of the repository after this step. */
  readonly repositoryBytes: number
}

export interface RoundsOptions {
  readonly sets: readonly DataSet[]
  readonly engines: readonly Engine[]
  readonly rounds: number
  /** An empty directory of the benchmark's own. */
  readonly directory: string
  readonly signal: AbortSignal
  readonly say: (line: string) => void
}

export async function runRounds(options: RoundsOptions): Promise<readonly Sample[]> {
  const samples: Sample[] = []
  for (const set of options.sets) {
    for (let round = 1; round <= options.rounds; round += 1) samples.push(...(await runRound(set, round, options)))
  }
  return samples
}

async function runRound(set: DataSet, round: number, options: RoundsOptions): Promise<readonly Sample[]> {
  const { directory, signal, say } = options
  const source = join(directory, 'source')
  const turn = round % options.engines.length
  const engines = [...options.engines.slice(turn), ...options.engines.slice(0, turn)]
  const dataBytes = await makeData(set, source)
  // What was just written is flushed, so that no engine waits for another's dirty pages.
  const settle = () => execFileSync('sync')
  const places = (engine: Engine): Places => ({
    home: join(directory, engine.name, 'home'),
    repository: join(directory, engine.name, 'repository'),
    source,
    target: join(directory, engine.name, 'target'),
  })
  const samples: Sample[] = []
  const each = async (
    step: Step,
    command: (engine: Engine, at: Places) => Command,
    after?: (engine: Engine) => void,
  ) => {
    for (const engine of engines) {
      signal.throwIfAborted()
      settle()
      const at = places(engine)
      const cost = await measured(command(engine, at), { scratch: at.home, signal })
      const repositoryBytes = bytesBelow(at.repository)
      samples.push({ data: set.name, engine: engine.name, step, round, cost, dataBytes, repositoryBytes })
      say(`${set.name}, round ${round}: ${engine.name} ${step} ${cost.seconds.toFixed(2)} s`)
      after?.(engine)
    }
  }
  for (const engine of engines) {
    const at = places(engine)
    for (const path of [at.home, at.target]) mkdirSync(path, { recursive: true })
    await measured(engine.init(at), { scratch: at.home, signal })
  }
  await each('first backup', (engine, at) => engine.backup(at, 'first'))
  await each('check --read-data', (engine, at) => engine.check(at))
  await each(
    'restore',
    (engine, at) => engine.restore(at),
    (engine) => {
      const at = places(engine)
      if (round === 1) execFileSync('diff', ['-r', source, engine.restoredAt(at)], { stdio: 'inherit' })
      rmSync(at.target, { recursive: true })
      mkdirSync(at.target)
    },
  )
  await each('unchanged', (engine, at) => engine.backup(at, 'unchanged'))
  if (set.change !== undefined) {
    await set.change(source)
    await each('changed', (engine, at) => engine.backup(at, 'changed'))
  }
  for (const engine of engines) rmSync(join(directory, engine.name), { recursive: true })
  return samples
}

function bytesBelow(directory: string): number {
  let bytes = 0
  for (const entry of readdirSync(directory, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) bytes += statSync(join(entry.parentPath, entry.name)).size
  }
  return bytes
}
