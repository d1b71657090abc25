/**
 * `npm run spec`: checks the models of spec/ with TLC, and prints for each the states, the depth and the time.
 *
 * `npm run spec [model…]` runs those; `npm run spec -- --record` also writes the table of spec/README.md and the
 * counterexamples; `npm run spec -- trace [--seeds N]` lets TLC follow traces of the seeded worlds.
 *
 * TLC is a program of its own: `TLA2TOOLS` names its tla2tools.jar (or a class path), Java 17 runs it.
 * Exit codes: 0 as expected, 1 not, 2 wrong arguments, 3 TLC or Java is not there.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Trace, TraceStep } from '../packages/core/src/cut/testing/trace-export.ts'
import { collectTraces, type TraceShape, traceModule, traceShapes } from '../spec/trace-module.ts'

const spec = fileURLToPath(new URL('../spec/', import.meta.url))
const javaMin = 11
const outputMax = 64 * 1024 * 1024

interface Model {
  readonly name: string
  /** The invariant or the liveness property that must be violated; `null` when nothing must. */
  readonly violates: string | null
}

interface Tlc {
  readonly java: string
  readonly classPath: string
  readonly scratch: string
}

interface Run {
  readonly model: Model
  readonly isExpected: boolean
  readonly found: string
  readonly states: string
  readonly distinct: string
  readonly depth: string
  readonly seconds: number
  readonly output: string
}

process.exitCode = main()

function main(): number {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { record: { type: 'boolean' }, seeds: { type: 'string' } },
  })
  const models = readModels()
  const isTrace = positionals[0] === 'trace'
  const wanted = isTrace ? [] : positionals.map((name) => name.replace(/^Cut_/, ''))
  const unknown = wanted.filter((name) => models.every((model) => model.name !== name))
  const seeds = Number(values.seeds ?? 20)
  if (unknown.length > 0 || !Number.isSafeInteger(seeds) || seeds < 1) {
    const names = models.map(({ name }) => name).join(', ')
    console.error(
      `Not a model, or not a number of seeds: ${[...unknown, values.seeds ?? ''].join(' ')}. Models: ${names}`,
    )
    return 2
  }
  const scratch = mkdtempSync(join(tmpdir(), 'stillpoint-spec-'))
  try {
    const tlc = findTlc(scratch)
    if (tlc === null) return 3
    if (isTrace) return runTraces(tlc, seeds)
    return runModels(
      tlc,
      wanted.length === 0 ? models : models.filter(({ name }) => wanted.includes(name)),
      values.record,
    )
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

function readModels(): readonly Model[] {
  const files = readdirSync(spec).filter((file) => /^Cut_\w+\.cfg$/.test(file))
  return files.sort().map((file): Model => {
    const text = readFileSync(join(spec, file), 'utf8')
    const name = file.slice('Cut_'.length, -'.cfg'.length)
    if (!text.startsWith('\\* Fails on purpose')) return { name, violates: null }
    const violates = /^(?:INVARIANTS|PROPERTIES)\n {2}(\w+)$/m.exec(text)?.[1]
    if (violates === undefined) throw new Error(`${file} must name the one invariant or property that it violates`)
    return { name, violates }
  })
}

/** TLC and Java, or why not. */
function findTlc(scratch: string): Tlc | null {
  const classPath = process.env['TLA2TOOLS'] ?? ''
  if (classPath === '') {
    console.error('TLC is not here: set TLA2TOOLS to the path of tla2tools.jar.')
    console.error("It is part of the TLA+ project's releases: https://github.com/tlaplus/tlaplus/releases")
    console.error('Java 17 is needed too, on the PATH or in JAVA_HOME. What was found with both is in spec/README.md.')
    return null
  }
  const home = process.env['JAVA_HOME']
  const java = home === undefined || home === '' ? 'java' : join(home, 'bin', 'java')
  const version = spawnSync(java, ['-version'], { encoding: 'utf8' })
  const major = Number(/version "(\d+)/.exec(version.stderr ?? '')?.[1] ?? 0)
  if (major < javaMin) {
    const found = major === 0 ? 'none was found' : `${java} is version ${major}`
    console.error(`TLC needs Java 17 (at least ${javaMin}): ${found}. Install it, or set JAVA_HOME.`)
    return null
  }
  // TLC reports its use to its authors unless its user's home says no. This run has a home of its own, which does.
  mkdirSync(join(scratch, 'home', '.tlaplus'), { recursive: true })
  writeFileSync(join(scratch, 'home', '.tlaplus', 'esc.txt'), 'NO_STATISTICS\n')
  const tlc = { java, classPath, scratch }
  if (runTlc(tlc, scratch, ['-h']).includes('Could not find or load main class')) {
    console.error(`There is no TLC in TLA2TOOLS=${classPath.split(delimiter).join(', ')}.`)
    return null
  }
  return tlc
}

function runTlc({ java, classPath, scratch }: Tlc, cwd: string, args: readonly string[]): string {
  // One worker: several would not find the same counterexample twice.
  const vm = ['-Xmx4g', '-XX:+UseParallelGC', `-Duser.home=${join(scratch, 'home')}`, '-cp', classPath, 'tlc2.TLC']
  const tlc = ['-workers', '1', '-noGenerateSpecTE', '-metadir', join(scratch, 'states')]
  const options = { cwd, encoding: 'utf8', maxBuffer: outputMax } as const
  const { stdout, stderr, error } = spawnSync(java, [...vm, ...(args[0] === '-h' ? [] : tlc), ...args], options)
  if (error !== undefined) throw error
  return `${stdout}${stderr}`
}

function runModels(tlc: Tlc, models: readonly Model[], isRecording = false): number {
  const runs: Run[] = []
  for (const model of models) {
    const run = runModel(tlc, model)
    runs.push(run)
    console.log(`${run.isExpected ? 'ok  ' : 'FAIL'} ${rowOf(run).join('  ')}`)
    if (!run.isExpected) console.log(run.output)
    if (isRecording && run.isExpected) recordCounterexample(run)
  }
  console.log(`\n${tableOf(runs)}`)
  const isGood = runs.every(({ isExpected }) => isExpected)
  if (isRecording && isGood) recordTable(runs)
  return isGood ? 0 : 1
}

function runModel(tlc: Tlc, model: Model): Run {
  const startedAtMs = performance.now()
  const config = `Cut_${model.name}.cfg`
  const output = runTlc(tlc, spec, ['-difftrace', '-config', config, 'CutModels.tla'])
  const seconds = Math.round((performance.now() - startedAtMs) / 1_000)
  const numbers = /(\d+) states generated, (\d+) distinct states found, (\d+) states left/g
  const [, states = '?', distinct = '?'] = [...output.matchAll(numbers)].at(-1) ?? []
  const depth = /depth of the complete state graph search is (\d+)/.exec(output)?.[1] ?? '?'
  const violated = violatedIn(output, model)
  const isClean = output.includes('Model checking completed. No error has been found.')
  // A model that never comes to a seal would prove nothing.
  const isWitnessed = output.includes('witness: sealed')
  const isExpected = model.violates === null ? isClean && isWitnessed : violated === model.violates
  const found =
    violated !== null ? `violates ${violated}` : isClean ? (isWitnessed ? 'holds' : 'seals nothing') : 'error'
  return { model, isExpected, found, states, distinct, depth, seconds, output }
}

/** TLC names the property that does not hold, or, in older versions, only says that it does not. */
function violatedIn(output: string, { violates }: Model): string | null {
  const found = /Invariant (\w+) is violated|Temporal property (\w+) was violated/.exec(output)
  if (found !== null) return found[1] ?? found[2] ?? null
  return output.includes('Temporal properties were violated') ? violates : null
}

function rowOf({ model, found, states, distinct, depth, seconds }: Run): readonly string[] {
  return [model.name, found, states, distinct, depth, `${seconds} s`]
}

function tableOf(runs: readonly Run[]): string {
  const head = ['model', 'result', 'states', 'distinct', 'depth', 'time']
  const lines = [head, head.map(() => '---'), ...runs.map(rowOf)]
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

function recordCounterexample({ model, output }: Run): void {
  if (model.violates === null) return
  const begin = output.search(/^Error: (Invariant|Temporal)/m)
  const end = output.search(/^\d+ states generated/m)
  const text = output
    .slice(begin, end)
    .replace(/^Progress.*\n/gm, '')
    .trimEnd()
  mkdirSync(join(spec, 'counterexamples'), { recursive: true })
  writeFileSync(join(spec, 'counterexamples', `${model.name}.txt`), `${text}\n`)
}

function recordTable(runs: readonly Run[]): void {
  const path = join(spec, 'README.md')
  const text = readFileSync(path, 'utf8')
  const place = /(<!-- recorded: begin[^\n]*-->\n)[\s\S]*(<!-- recorded: end -->)/
  const recorded = place.exec(text)?.[0]
  if (recorded === undefined) throw new Error('spec/README.md has no place for the table')
  const known = new Map([...recorded.matchAll(/^\| (\w+) \| .*\|$/gm)].map(([line, name]) => [name, line]))
  for (const run of runs) known.set(run.model.name, `| ${rowOf(run).join(' | ')} |`)
  const [head = '', rule = ''] = tableOf([]).split('\n')
  const names = readModels().map(({ name }) => name)
  const lines = [head, rule, ...names.flatMap((name) => known.get(name) ?? [])]
  writeFileSync(
    path,
    text.replace(place, (_, begin: string, end: string) => `${begin}${lines.join('\n')}\n${end}`),
  )
}

function runTraces(tlc: Tlc, seeds: number): number {
  let rejected = 0
  for (const shape of traceShapes) rejected += runShape(tlc, shape, seeds)
  console.log(rejected === 0 ? 'Every trace is a behaviour of Cut.' : `${rejected} traces are not behaviours of Cut.`)
  return rejected === 0 ? 0 : 1
}

/** Answers how many traces of this shape were not accepted. */
function runShape(tlc: Tlc, shape: TraceShape, seeds: number): number {
  const { traces, left } = collectTraces(shape, seeds)
  const folder = join(tlc.scratch, shape.name)
  mkdirSync(folder)
  for (const file of ['Cut.tla', 'CutTrace.tla']) copyFileSync(join(spec, file), join(folder, file))
  // A judge must be able to say no: the last trace lacks the first hold, and must not be accepted.
  const damaged = withoutFirst(traces[0]?.trace ?? { steps: [], openHandlers: false, outcomes: [] }, 'held')
  const module = traceModule('Trace', shape, [...traces.map(({ trace }) => trace), damaged])
  writeFileSync(join(folder, 'Trace.tla'), module.tla)
  writeFileSync(join(folder, 'Trace.cfg'), module.cfg)
  const output = runTlc(tlc, folder, ['-difftrace', '-config', 'Trace.cfg', 'Trace.tla'])
  const accepted = new Set([...output.matchAll(/accepted (\d+)/g)].map(([, index]) => Number(index)))
  const isClean = output.includes('Model checking completed. No error has been found.')
  const sealed = traces.flatMap(({ trace }) => trace.outcomes.filter((outcome) => outcome === 'sealed')).length
  const steps = traces.reduce((sum, { trace }) => sum + trace.steps.length, 0)
  const isFooled = accepted.delete(traces.length + 1)
  const counts = `${accepted.size} of ${traces.length} accepted, ${steps} steps, ${sealed} cuts sealed`
  console.log(`${shape.name}: ${counts}; ${left.length} seeds left out (open handlers) — ${shape.about}`)
  if (!isClean) console.log(output)
  if (isFooled) console.log('  a trace without its first hold was accepted')
  let rejected = isClean && !isFooled && traces.length > 0 ? 0 : 1
  for (const [index, { seed, trace }] of traces.entries()) {
    if (accepted.has(index + 1)) continue
    rejected += 1
    const reached = [...output.matchAll(new RegExp(`step ${index + 1} (\\d+)`, 'g'))].length
    const next = JSON.stringify(trace.steps[reached] ?? 'its end')
    console.log(`  seed ${seed}: not accepted after ${reached} of ${trace.steps.length} steps; the next one is ${next}`)
  }
  return rejected
}

function withoutFirst(trace: Trace, kind: TraceStep['e']): Trace {
  const place = trace.steps.findIndex(({ e }) => e === kind)
  return { ...trace, steps: trace.steps.filter((_, index) => index !== place) }
}
