/**
 * Offers a restore to the processes that are connected, after the switch, and waits for them for a while.
 *
 * Owns: the waiting. Nothing depends on it: the catalog has the offers, and a process that did not answer gets its own
 * when it joins again.
 */
import type { RestoreOffer } from '@stillpoint/core'
import type { ParticipantName } from '@stillpoint/core/kernel'
import type { LocalSystem } from './local-system.ts'

/** How long a process may take to load its state, before the operation answers that it is still at it. */
const processRestoreMs = 120_000

export interface ProcessOutcome {
  readonly outcome: 'restored' | 'waiting'
  readonly notes: readonly string[]
}

interface WaitOptions {
  readonly target: LocalSystem
  readonly offer: RestoreOffer
  readonly names: readonly ParticipantName[]
  readonly signal: AbortSignal
}

export async function waitForProcesses(options: WaitOptions): Promise<ReadonlyMap<ParticipantName, ProcessOutcome>> {
  const { target, offer, names, signal } = options
  const { processes, catalog, clock, config } = target
  const outcomes = new Map<ParticipantName, ProcessOutcome>()
  const open = new Set<ParticipantName>()
  const answered = Promise.withResolvers<void>()
  const close = (name: ParticipantName, outcome: ProcessOutcome) => {
    if (!open.delete(name)) return
    outcomes.set(name, outcome)
    if (open.size === 0) answered.resolve()
  }
  const unsubscribe = processes.subscribe((event) => {
    if (event.type === 'lost') close(event.name, { outcome: 'waiting', notes: ['its connection was lost'] })
    if (event.type !== 'restored' && event.type !== 'restoreFailed') return
    if (event.restore !== offer.restore) return
    if (event.type === 'restored') close(event.name, { outcome: 'restored', notes: [] })
    else close(event.name, { outcome: 'waiting', notes: [event.message] })
  })
  try {
    for (const process of processes.connected()) {
      if (!names.includes(process.name)) continue
      open.add(process.name)
      if (!processes.offerRestore(process, offer)) close(process.name, { outcome: 'waiting', notes: [] })
    }
    if (open.size > 0) {
      const stop = clock.after(processRestoreMs, () => answered.resolve())
      const onAbort = () => answered.resolve()
      signal.addEventListener('abort', onAbort, { once: true })
      if (signal.aborted) answered.resolve()
      await answered.promise
      stop()
      signal.removeEventListener('abort', onAbort)
    }
  } finally {
    unsubscribe()
  }
  for (const [name, { outcome }] of outcomes) {
    if (outcome === 'restored') await catalog.completeRestore(config.system, name, offer.restore)
  }
  return outcomes
}
