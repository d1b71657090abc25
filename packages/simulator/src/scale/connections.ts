/**
 * What one cut costs over real connections: a real server with a repository on a real disk, and processes that have
 * joined by the SDK over WebSockets, several hundred of them in each of two children, since this is one machine.
 *
 * Each has a small state of its own, which is captured and uploaded by HTTP. Not in it: channels between them.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { defined, participantName } from '@stillpoint/core/kernel'
import { temporaryDirectory } from '@stillpoint/testbed'
import type { SystemConfig } from '../../../stillpoint/src/config/system-config.ts'
import { openServedSystem } from '../../../stillpoint/src/coordinator/local-operations.ts'
import { initConfiguredRepository } from '../../../stillpoint/src/coordinator/open-repository.ts'
import type { Operations } from '../../../stillpoint/src/coordinator/operations.ts'
import type { ProcessDirectory } from '../../../stillpoint/src/coordinator/process-directory.ts'
import { startServer } from '../../../stillpoint/src/server/start-server.ts'
import { systemClock, systemEntropy, systemRandom } from '../../../stillpoint/src/system-env.ts'
import type { Column } from './table.ts'

export interface ConnectionsMeasured {
  readonly processes: number
  readonly orders: number
  readonly facts: number
  /** From the plan to the moment at which everybody had marked and was let go. */
  readonly takenMs: number
  /** From the plan to the sealed snapshot. */
  readonly sealedMs: number
  /** Of the server and coordinator alone, until then. */
  readonly takenCpuMs: number
  readonly sealedCpuMs: number
  /** Of the processes that have joined, until everybody runs again; 0 where there is no /proc. */
  readonly joinedCpuMs: number
  readonly rssBytes: number
}

const children = 2
const env = { clock: systemClock, random: systemRandom, entropy: systemEntropy }

/** Takes some snapshots of a system of so many processes. @returns the last one's figures */
export async function measureConnections(processes: number, rounds: number): Promise<ConnectionsMeasured> {
  const directory = await temporaryDirectory('scale')
  const counts = { orders: 0, facts: 0 }
  const config = configOf(directory.path, processes)
  await writeFile(join(directory.path, 'password'), 'correct horse\n', { mode: 0o600 })
  await initConfiguredRepository(config, { ...env, signal: new AbortController().signal })
  let operations: Operations | undefined
  const server = await startServer({
    config,
    ...env,
    log: () => {},
    operationsFactory: async (context) => {
      const served = await openServedSystem({ ...context, processes: counting(context.processes, counts) })
      operations = served.operations
      return served
    },
  })
  const joiners = Array.from({ length: children }, (_, index) =>
    startJoiner(server, {
      from: Math.floor((processes * index) / children),
      to: Math.floor((processes * (index + 1)) / children),
    }),
  )
  try {
    await Promise.all(joiners.map(({ joined }) => joined))
    if (operations === undefined) throw new Error('the server has no operations')
    let last: ConnectionsMeasured | undefined
    for (let round = 0; round < rounds; round += 1) {
      Object.assign(counts, { orders: 0, facts: 0 })
      last = {
        processes,
        ...(await takeOne(
          operations,
          joiners.map(({ pid }) => pid),
        )),
        ...counts,
        rssBytes: process.memoryUsage.rss(),
      }
    }
    if (last === undefined) throw new Error('no round')
    return last
  } finally {
    await Promise.all(joiners.map(({ end }) => end()))
    await server.close()
    await directory.remove()
  }
}

async function takeOne(
  operations: Operations,
  pids: readonly number[],
): Promise<Omit<ConnectionsMeasured, 'processes' | 'orders' | 'facts' | 'rssBytes'>> {
  const at = new Map<string, { readonly ms: number; readonly cpuMs: number; readonly joinedCpuMs: number }>()
  const taken = await operations.take(
    { allowInconsistent: false, tags: [] },
    {
      signal: new AbortController().signal,
      onEvent: (event) => {
        if (event.type === 'phase') at.set(event.phase, now(pids))
        if (event.type === 'retry') throw new Error(`the cut was tried again: ${event.failure.message}`)
      },
    },
  )
  if (taken.verdict !== 'consistent') throw new Error(`the cut is ${taken.verdict}`)
  const since = (phase: string, key: 'ms' | 'cpuMs' | 'joinedCpuMs'): number =>
    defined(at.get(phase), phase)[key] - defined(at.get('prepare'), 'prepare')[key]
  return {
    takenMs: since('capture', 'ms'),
    takenCpuMs: since('capture', 'cpuMs'),
    joinedCpuMs: since('capture', 'joinedCpuMs'),
    sealedMs: since('release', 'ms'),
    sealedCpuMs: since('release', 'cpuMs'),
  }
}

function now(pids: readonly number[]): { readonly ms: number; readonly cpuMs: number; readonly joinedCpuMs: number } {
  const { user, system } = process.cpuUsage()
  const joinedCpuMs = pids.reduce((sum, pid) => sum + cpuMsOf(pid), 0)
  return { ms: performance.now(), cpuMs: (user + system) / 1_000, joinedCpuMs }
}

/** By proc(5), in the kernel's ticks of 10 ms. */
function cpuMsOf(pid: number): number {
  if (process.platform !== 'linux') return 0
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}

function counting(processes: ProcessDirectory, counts: { orders: number; facts: number }): ProcessDirectory {
  processes.subscribe((event) => {
    if (event.type === 'fact') counts.facts += 1
  })
  return {
    connected: () => processes.connected(),
    offerRestore: (to, offer) => processes.offerRestore(to, offer),
    subscribe: (listener) => processes.subscribe(listener),
    send: (to, order) => {
      counts.orders += 1
      return processes.send(to, order)
    },
  }
}

function configOf(baseDir: string, processes: number): SystemConfig {
  const names = Array.from({ length: processes }, (_, index) => participantName(`p${index}`))
  return {
    path: join(baseDir, 'stillpoint.yaml'),
    baseDir,
    system: 'scale',
    repository: { path: join(baseDir, 'repository'), passwordFile: 'password' },
    stateDir: join(baseDir, 'state'),
    server: { host: '127.0.0.1', port: 0 },
    // A machine that is shared with others, and a thousand processes on it: slow is no failure here.
    deadlines: { quiesceMs: 60_000, markMs: 60_000, resumeMs: 60_000, drainMs: 60_000, leaseMs: 120_000 },
    retries: { attempts: 1, backoffMs: 1 },
    schedule: null,
    participants: names.map((name) => ({ kind: 'process', name })),
  }
}

function startJoiner(
  server: { readonly url: string; readonly tokenFile: string },
  { from, to }: { readonly from: number; readonly to: number },
): { readonly pid: number; readonly joined: Promise<void>; readonly end: () => Promise<void> } {
  const main = fileURLToPath(new URL('./join-main.ts', import.meta.url))
  const args = [main, '--server', server.url, '--token-file', server.tokenFile, '--from', `${from}`]
  const child: ChildProcess = spawn(process.execPath, [...args, '--count', `${to - from}`], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const closed = once(child, 'close')
  const joined = new Promise<void>((resolve, reject) => {
    child.stdout?.once('data', () => resolve())
    closed.then(([code]) => reject(new Error(`the processes from p${from} ended with ${code}`)), reject)
  })
  joined.catch(() => {}) // Whoever waits for it hears of it.
  return {
    pid: defined(child.pid, 'the pid of a child'),
    joined,
    end: async () => {
      child.kill('SIGKILL')
      await closed
    },
  }
}

const whole = (value: number): string => value.toFixed(0)

export const connectionColumns: readonly Column<ConnectionsMeasured>[] = [
  ['connections', (one) => one.processes, String],
  ['orders', (one) => one.orders, String],
  ['facts', (one) => one.facts, String],
  ['plan to resume, ms', (one) => one.takenMs, whole],
  ['server CPU ms', (one) => one.takenCpuMs, whole],
  ['processes CPU ms', (one) => one.joinedCpuMs, whole],
  ['plan to seal, ms', (one) => one.sealedMs, whole],
  ['server CPU ms', (one) => one.sealedCpuMs, whole],
  ['server memory, MB', (one) => one.rssBytes / 1e6, whole],
]
