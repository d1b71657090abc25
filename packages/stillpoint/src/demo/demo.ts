/**
 * The demo: a bank of four branches that send money to each other over real sockets, all the time. A snapshot while they
 * run, a disaster, a restore, and the proof that no money was lost.
 *
 * Owns: the story and its checks. Everything in it is the product at work: server, SDK, sources, repository.
 */
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Clock, type Entropy, Failure, type Random } from '@stillpoint/core/kernel'
import type { SystemConfig } from '../config/system-config.ts'
import { openServedSystem } from '../coordinator/local-operations.ts'
import type { Operations, SnapshotDetail } from '../coordinator/operations.ts'
import { connectOperations } from '../server/client.ts'
import { findServer } from '../server/find-server.ts'
import { startServer } from '../server/start-server.ts'
import { type Bank, bankTotal, branchNames, createBank } from './bank/bank.ts'
import { layOutBank } from './bank-system.ts'
import type { DemoCheck, DemoResult } from './demo-result.ts'
import { type InFlightTransfer, readInFlight } from './in-flight.ts'
import { drawSpaceTime } from './space-time.ts'

/** What the demo needs of its surroundings. */
export interface DemoStage {
  /** Lines for people to read; nothing depends on them. */
  say(lines: readonly string[]): void
  heading(text: string): void
  tone(text: string, tone: 'good' | 'bad' | 'faint' | 'strong'): string
  readonly width: number
  readonly clock: Clock
  readonly random: Random
  readonly entropy: Entropy
  readonly signal: AbortSignal
}

interface Play {
  readonly stage: DemoStage
  readonly config: SystemConfig
  readonly bank: Bank
  readonly operations: Operations
  readonly checks: DemoCheck[]
}

export interface DemoOptions {
  /** Go on with the bank after the proof, until the signal aborts. */
  readonly stay: boolean
  /** Absolute path of a directory that is absent or empty, and is kept. Null: a temporary one, removed at the end. */
  readonly dir: string | null
  /** Called when the proof is complete. */
  readonly onProof: (result: DemoResult) => void
}

/**
 * Plays the demo.
 * @throws Failure `target_not_empty` when the directory has something in it, `demo_failed`, and those of the parts
 */
export async function runDemo(stage: DemoStage, options: DemoOptions): Promise<DemoResult> {
  if (options.dir !== null) {
    await takeDirectory(options.dir)
    return playIn(options.dir, stage, options)
  }
  const dir = await mkdtemp(join(tmpdir(), 'stillpoint-demo-'))
  try {
    return await playIn(dir, stage, options)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

async function takeDirectory(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true })
  if ((await readdir(dir)).length === 0) return
  const hint = 'Name a directory that does not exist yet.'
  throw new Failure({ code: 'target_not_empty', message: `The directory ${dir} is not empty`, hint })
}

async function playIn(dir: string, stage: DemoStage, options: DemoOptions): Promise<DemoResult> {
  const { clock, random, entropy, signal } = stage
  const config = await layOutBank(dir, { clock, random, entropy, signal })
  // The server's own log would tell the story twice; what fails is thrown by the operations.
  const server = await startServer({
    config,
    clock,
    random,
    entropy,
    operationsFactory: openServedSystem,
    log: () => {},
  })
  const complaints: string[] = []
  const bank = createBank({
    dir,
    server: server.url,
    tokenFile: server.tokenFile,
    clock,
    onComplaint: (text) => complaints.push(text),
  })
  let operations: Operations | null = null
  try {
    const found = await findServer(config.stateDir, signal)
    if (found === null) throw new Error('the server that was just started cannot be found')
    operations = await connectOperations({ url: found.url, token: found.token, clock })
    const play: Play = { stage, config, bank, operations, checks: [] }
    const result = await prove(play)
    options.onProof(result)
    if (options.stay) await goOn(play)
    return result
  } catch (error) {
    if (complaints.length > 0 && !signal.aborted) stage.say(['What the branches said:', ...complaints.slice(-10)])
    throw error
  } finally {
    await bank.kill()
    await operations?.close()
    await server.close()
  }
}

async function prove(play: Play): Promise<DemoResult> {
  const { stage, checks } = play
  await open(play)
  const { snapshot, transfers } = await take(play)
  const env = { clock: stage.clock, random: stage.random, entropy: stage.entropy, signal: stage.signal }
  const inFlight = await readInFlight(play.config, snapshot.id, env)
  show(play, snapshot, inFlight)
  await destroy(play)
  const inFlightAmount = inFlight.reduce((sum, { amount }) => sum + amount, 0)
  const totalRestored = await restore(play, snapshot, inFlightAmount)
  const totalAfter = await reopen(play, inFlight.length)
  const passed = checks.every((check) => check.passed)
  stage.say(['', passed ? stage.tone('Every check held.', 'good') : stage.tone('A check failed.', 'bad')])
  return {
    passed,
    verdict: snapshot.verdict,
    snapshot: snapshot.id,
    pauseMs: snapshot.pauseMs,
    inFlight: inFlight.length,
    inFlightAmount,
    totalBefore: bankTotal,
    totalRestored,
    totalAfter,
    transfers,
    checks,
  }
}

async function open({ stage, bank }: Play): Promise<void> {
  stage.heading('A bank of four branches')
  stage.say([
    `${branchNames.join(', ')}: four processes, each with a SQLite ledger of its own,`,
    `sending money to each other over sockets. ${money(bankTotal)} in all, whatever happens.`,
  ])
  await bank.start(stage.signal)
  bank.send(true)
  await pause(stage, 1_500)
}

async function take(play: Play): Promise<{ snapshot: SnapshotDetail; transfers: number }> {
  const { stage, operations } = play
  stage.heading('A snapshot, while they run')
  const before = await sentSoFar(play)
  const startedMs = stage.clock.monotonicMs()
  const snapshot = await operations.take({ allowInconsistent: false, tags: ['demo'] }, contextOf(play))
  const transfers = await sentSoFar(play)
  const seconds = (stage.clock.monotonicMs() - startedMs) / 1_000
  stage.say([
    `Snapshot ${stage.tone(snapshot.id.slice(0, 8), 'strong')} sealed after ${seconds.toFixed(1)} s, ` +
      `${transfers - before} transfers sent meanwhile; no branch took longer than ${Math.round(snapshot.pauseMs)} ms for its mark.`,
  ])
  check(
    play,
    'the branches went on',
    transfers > before,
    `${transfers - before} transfers while the snapshot was taken`,
  )
  check(
    play,
    'the cut is consistent',
    snapshot.verdict === 'consistent',
    snapshot.verdictReasons.join('; ') || 'no reason against it',
  )
  await pause(stage, 300) // The traces of the moments after the marks are on their way.
  return { snapshot, transfers }
}

function show({ stage, bank }: Play, snapshot: SnapshotDetail, inFlight: readonly InFlightTransfer[]): void {
  stage.heading('The cut')
  const lanes = bank.traces().map(({ name, markedAtMs, events }) => ({ name, markedAtMs, events }))
  const crossings = inFlight.map(({ message, from, to, amount }) => ({ message, from, to, label: money(amount) }))
  stage.say(drawSpaceTime({ lanes, crossings, width: stage.width }))
  const sum = inFlight.reduce((total, { amount }) => total + amount, 0)
  stage.say([
    '',
    `${inFlight.length} ${inFlight.length === 1 ? 'transfer' : 'transfers'} in flight, ${money(sum)}: sent before the cut, booked after it, kept as channel state.`,
    `Verdict: ${stage.tone(snapshot.verdict, snapshot.verdict === 'consistent' ? 'good' : 'bad')}, recomputable from the certificate in the snapshot.`,
  ])
}

async function destroy({ stage, bank }: Play): Promise<void> {
  stage.heading('The disaster')
  await bank.kill()
  await bank.destroyLedgers()
  stage.say(['All four branches killed, all four ledgers deleted.'])
}

async function restore(play: Play, snapshot: SnapshotDetail, inFlightAmount: number): Promise<number> {
  const { stage, bank, operations } = play
  stage.heading('The restore')
  const request = { snapshot: snapshot.id, participants: [], replace: false, toConfig: null }
  const restored = await operations.restore(request, contextOf(play))
  const failed = restored.participants.flatMap(({ name, checks }) =>
    checks.filter(({ passed }) => !passed).map(() => name),
  )
  check(
    play,
    'every ledger is verified',
    failed.length === 0,
    failed.length === 0 ? 'against the snapshot' : failed.join(', '),
  )
  const ledgers = bank.ledgersTotal()
  const total = ledgers + inFlightAmount
  stage.say([
    `In the ledgers ${money(ledgers)}, in flight ${money(inFlightAmount)}, together ${stage.tone(money(total), 'strong')}; ` +
      `the bank opened with ${money(bankTotal)}.`,
  ])
  check(
    play,
    'ledgers and transfers in flight are all the money',
    total === bankTotal,
    `${money(total)} of ${money(bankTotal)}`,
  )
  return total
}

async function reopen(play: Play, inFlight: number): Promise<number> {
  const { stage, bank } = play
  stage.heading('Open again')
  await bank.start(stage.signal)
  bank.send(true)
  await pause(stage, 1_000)
  bank.send(false)
  const total = await settledTotal(play)
  stage.say([
    `The branches run again, in a new generation. The ${inFlight} transfers in flight have arrived: ${money(total)} in the ledgers.`,
  ])
  check(play, 'all transfers arrived, each once', total === bankTotal, `${money(total)} of ${money(bankTotal)}`)
  return total
}

/** The sum of the ledgers when nothing is in flight any more: when it has stopped changing. */
async function settledTotal({ stage, bank }: Play): Promise<number> {
  let last = { total: -1, booked: -1 }
  for (let tries = 0; tries < 40; tries += 1) {
    await pause(stage, 250)
    const reports = [...(await bank.reports(stage.signal)).values()]
    const total = reports.reduce((sum, report) => sum + report.total, 0)
    const booked = reports.reduce((sum, report) => sum + report.booked, 0)
    if (total === last.total && booked === last.booked) return total
    last = { total, booked }
  }
  return last.total
}

async function goOn({ stage, bank, config }: Play): Promise<void> {
  stage.heading('It goes on')
  const command = 'npx stillpoint'
  const flag = `--config ${config.path}`
  stage.say([
    'The bank runs until you press Ctrl-C. In another terminal:',
    `  ${command} take ${flag}`,
    `  ${command} list ${flag}`,
    `  ${command} show latest ${flag}`,
  ])
  bank.send(true)
  await new Promise<void>((resolve) => {
    if (stage.signal.aborted) resolve()
    else stage.signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

function check({ stage, checks }: Play, name: string, passed: boolean, detail: string): void {
  checks.push({ name, passed, detail })
  stage.say([`${passed ? stage.tone('✓', 'good') : stage.tone('✗', 'bad')} ${name}: ${detail}`])
}

async function sentSoFar({ bank, stage }: Play): Promise<number> {
  const reports = [...(await bank.reports(stage.signal)).values()]
  return reports.reduce((sum, { sent }) => sum + sent, 0)
}

function contextOf({ stage }: Play) {
  return { signal: stage.signal, onEvent: () => {} }
}

async function pause({ clock, signal }: DemoStage, ms: number): Promise<void> {
  signal.throwIfAborted()
  await new Promise<void>((resolve, reject) => {
    const stop = clock.after(ms, () => {
      signal.removeEventListener('abort', abort)
      resolve()
    })
    function abort() {
      stop()
      reject(signal.reason)
    }
    signal.addEventListener('abort', abort, { once: true })
  })
}

function money(cents: number): string {
  return (cents / 100).toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: 2 })
}
