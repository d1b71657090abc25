/**
 * Shares seeds out among processes, since one world needs one core, and shows how far they are.
 *
 * Owns: the workers, and what a person sees while they run. Ctrl-C prints what has been done until then.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { showSeed } from './report.ts'
import { noTotals, type Range, runRange, sumOf, type Totals } from './seeds.ts'

const tellEveryMs = 500
/** Where nobody looks at a terminal: a line now and then. */
const lineEveryMs = 30_000

export type Ending = 'no-violation' | 'violation' | 'interrupted'

/**
 * As a worker: the totals as a line of JSON, at the end and, where `tells`, now and then before.
 * @returns whether all judges were content
 */
export async function runAsWorker(range: Range & { readonly step: number; readonly tells: boolean }): Promise<boolean> {
  // A terminal's Ctrl-C reaches every process: this one is ended by its parent, which has read what it has done.
  if (range.tells) process.on('SIGINT', () => {})
  let toldMs = Number.NEGATIVE_INFINITY
  const tell = (totals: Readonly<Totals>): void => void process.stdout.write(`${JSON.stringify(totals)}\n`)
  const totals = await runRange(range, (soFar) => {
    if (!range.tells || performance.now() - toldMs < tellEveryMs) return
    toldMs = performance.now()
    tell(soFar)
  })
  tell(totals)
  return totals.failed === null
}

export async function runWorkers(range: Range & { readonly workers: number }): Promise<Ending> {
  const startedMs = performance.now()
  const parts = new Map<number, Totals>()
  const stop = new AbortController()
  let isInterrupted = false
  const interrupt = (): void => {
    isInterrupted = true
    stop.abort()
  }
  process.once('SIGINT', interrupt)
  process.once('SIGTERM', interrupt)
  const progress = showProgress(() => describe(sumOf(parts.values()), range.count, performance.now() - startedMs))
  try {
    const workers = Array.from({ length: range.workers }, (_, index) =>
      runWorker(range, index, stop.signal, (totals) => {
        const isFirst = parts.size === 0
        parts.set(index, totals)
        if (isFirst) progress.show()
        if (totals.failed !== null) stop.abort()
      }),
    )
    await Promise.all(workers)
  } finally {
    progress.end()
    stop.abort()
    process.off('SIGINT', interrupt)
    process.off('SIGTERM', interrupt)
  }
  const totals = sumOf(parts.values())
  const how = isInterrupted ? 'interrupted: ' : ''
  console.log(`${how}${describe(totals, range.count, performance.now() - startedMs)}`)
  if (totals.failed === null) return isInterrupted ? 'interrupted' : 'no-violation'
  await showSeed(totals.failed, { ...range, isTraced: true })
  return 'violation'
}

function describe(
  { seeds, steps, sealed, aborted, takenOver, restores, failed }: Totals,
  of: number,
  ms: number,
): string {
  const done = seeds === of ? `${seeds} seeds` : `${seeds} of ${of} seeds`
  const finding = failed === null ? 'no violation' : `seed ${failed} fails`
  return (
    `${done}, ${steps} steps, ${sealed} cuts sealed, ${aborted} aborted, ${takenOver} takeovers, ` +
    `${restores} restores, ${finding}, ${(ms / 1_000).toFixed(0)} s`
  )
}

function showProgress(text: () => string): { readonly show: () => void; readonly end: () => void } {
  const { stderr } = process
  const show = (): void => void stderr.write(stderr.isTTY ? `\r\x1b[K${text()}` : `${text()}\n`)
  const timer = setInterval(show, stderr.isTTY ? tellEveryMs : lineEveryMs)
  return {
    show,
    end: () => {
      clearInterval(timer)
      if (stderr.isTTY) stderr.write('\r\x1b[K')
    },
  }
}

/** Resolves when it has ended by itself, or when it was told to. */
async function runWorker(
  { from, count, workers, shape, canary }: Range & { readonly workers: number },
  index: number,
  signal: AbortSignal,
  told: (totals: Totals) => void,
): Promise<void> {
  const main = fileURLToPath(new URL('../simulate-main.ts', import.meta.url))
  const args = [main, '--worker', '--tells', '--from', `${from + index}`, '--step', `${workers}`]
  args.push('--seeds', `${Math.max(0, count - index)}`)
  if (shape !== undefined) args.push('--shape', shape)
  if (canary !== undefined) args.push('--canary', canary)
  // Worlds live for milliseconds and leave little: a larger nursery spares the collector most of them.
  const child = spawn(process.execPath, ['--max-semi-space-size=32', ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const stop = (): void => void child.kill('SIGTERM')
  signal.addEventListener('abort', stop, { once: true })
  const closed = once(child, 'close')
  for await (const line of createInterface({ input: child.stdout })) told({ ...noTotals(), ...JSON.parse(line) })
  const [code] = await closed
  signal.removeEventListener('abort', stop)
  if (code !== 0 && code !== 1 && !signal.aborted) {
    throw new Error(`the worker of the seeds ${from + index}, +${workers} … ended with ${code}`)
  }
}
