/**
 * The bank: four branches as processes, started, ordered, killed and started again.
 *
 * Owns: the processes and what they told. Every process that it starts is gone after `kill` or `close`.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Clock, Failure } from '@stillpoint/core/kernel'
import { accountsPerBranch, openingBalance, readTotal } from './ledger.ts'
import type { BranchEvent, BranchNews, BranchOrder } from './messages.ts'

export const branchNames = ['north', 'south', 'east', 'west'] as const

/** Cents that the bank has when it opens. It never has more or less. */
export const bankTotal = branchNames.length * accountsPerBranch * openingBalance

export interface BranchReport {
  readonly sent: number
  readonly booked: number
  readonly total: number
}

/** What a branch did around its last mark. */
export interface BranchTrace {
  readonly name: string
  readonly markedAtMs: number
  readonly events: readonly BranchEvent[]
}

export interface Bank {
  /** Starts all branches and waits until each has joined. */
  start(signal: AbortSignal): Promise<void>
  send(on: boolean): void
  reports(signal: AbortSignal): Promise<ReadonlyMap<string, BranchReport>>
  /** Around the last cut; empty until every branch has told. */
  traces(): readonly BranchTrace[]
  /** SIGKILL to every branch, at once. */
  kill(): Promise<void>
  destroyLedgers(): Promise<void>
  /** Sum over the ledgers on disk; for when no branch runs. */
  ledgersTotal(): number
}

interface Running {
  readonly child: ChildProcess
  readonly news: BranchNews[]
  readonly listeners: Set<() => void>
}

export interface BankOptions {
  readonly dir: string
  readonly server: string
  readonly tokenFile: string
  readonly clock: Clock
  /** What a branch printed on stderr. */
  readonly onComplaint: (text: string) => void
}

export function ledgerPath(dir: string, branch: string): string {
  return join(dir, 'ledgers', `${branch}.sqlite`)
}

const answerMsMax = 20_000

export function createBank(options: BankOptions): Bank {
  const running = new Map<string, Running>()
  const order = (name: string, body: BranchOrder): void => {
    running.get(name)?.child.send(body)
  }
  const waitFor = async <T extends BranchNews['type']>(name: string, type: T, signal: AbortSignal) => {
    const branch = running.get(name)
    if (branch === undefined) throw branchFailed(name, 'it is not running')
    return waitForNews(branch, { name, type, signal, clock: options.clock })
  }
  return {
    async start(signal) {
      for (const name of branchNames) running.set(name, startBranch(name, options))
      const urls: Record<string, string> = {}
      for (const name of branchNames) urls[name] = (await waitFor(name, 'listening', signal)).url
      for (const name of branchNames) order(name, { type: 'peers', urls })
      for (const name of branchNames) await waitFor(name, 'joined', signal)
    },
    send(on) {
      for (const name of branchNames) order(name, { type: 'send', on })
    },
    async reports(signal) {
      const found = new Map<string, BranchReport>()
      for (const name of branchNames) {
        forget(running.get(name), 'report')
        order(name, { type: 'report' })
      }
      for (const name of branchNames) found.set(name, await waitFor(name, 'report', signal))
      return found
    },
    traces: () => [...running].flatMap(([name, branch]) => traceOf(name, branch)),
    async kill() {
      const ended = [...running.values()].map(({ child }) => killed(child))
      running.clear()
      await Promise.all(ended)
    },
    async destroyLedgers() {
      const ledgers = join(options.dir, 'ledgers')
      for (const file of await readdir(ledgers)) await rm(join(ledgers, file))
    },
    ledgersTotal: () => branchNames.reduce((sum, name) => sum + readTotal(ledgerPath(options.dir, name)), 0),
  }
}

function startBranch(name: string, { dir, server, tokenFile, onComplaint }: BankOptions): Running {
  const argument = JSON.stringify({ name, ledger: ledgerPath(dir, name), server, tokenFile })
  const entry = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './branch.ts' : './branch.js', import.meta.url))
  const child = fork(entry, [argument], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
  const branch: Running = { child, news: [], listeners: new Set() }
  child.stderr?.setEncoding('utf8').on('data', (text: string) => onComplaint(text.trimEnd()))
  child.on('message', (news) => {
    branch.news.push(news as BranchNews)
    for (const wake of branch.listeners) wake()
  })
  child.on('exit', () => {
    for (const wake of branch.listeners) wake()
  })
  return branch
}

async function waitForNews<T extends BranchNews['type']>(
  branch: Running,
  options: { readonly name: string; readonly type: T; readonly signal: AbortSignal; readonly clock: Clock },
): Promise<Extract<BranchNews, { type: T }>> {
  const { name, type, signal, clock } = options
  const endMs = clock.monotonicMs() + answerMsMax
  for (;;) {
    signal.throwIfAborted()
    const found = branch.news.findLast((news): news is Extract<BranchNews, { type: T }> => news.type === type)
    if (found !== undefined) return found
    const failure = branch.news.find((news) => news.type === 'failed')
    if (failure !== undefined) throw branchFailed(name, failure.message)
    if (branch.child.exitCode !== null || branch.child.signalCode !== null) throw branchFailed(name, 'it ended')
    if (clock.monotonicMs() >= endMs) throw branchFailed(name, `it did not say "${type}" in time`)
    await new Promise<void>((resolve) => {
      const stop = clock.after(200, resolve)
      branch.listeners.add(function wake() {
        branch.listeners.delete(wake)
        stop()
        resolve()
      })
    })
  }
}

function branchFailed(name: string, why: string): Failure {
  return new Failure({ code: 'demo_failed', message: `The branch "${name}" failed: ${why}` })
}

function forget(branch: Running | undefined, type: BranchNews['type']): void {
  if (branch === undefined) return
  const kept = branch.news.filter((news) => news.type !== type)
  branch.news.splice(0, branch.news.length, ...kept)
}

function traceOf(name: string, branch: Running): readonly BranchTrace[] {
  const marked = branch.news.findLast((news) => news.type === 'marked')
  if (marked === undefined) return []
  const after = branch.news.findLast((news) => news.type === 'after')?.after ?? []
  return [{ name, markedAtMs: marked.atMs, events: [...marked.before, ...after] }]
}

function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => {
    child.once('exit', () => resolve())
    child.kill('SIGKILL')
  })
}
