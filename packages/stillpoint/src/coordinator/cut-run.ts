/**
 * Drives one attempt at a cut: the shell around core/cut/coordinator.ts.
 *
 * Owns: the queue of inputs, the timer, persisting records before anything of their step leaves (the rule of a log),
 * and bringing orders to stores and processes. Does not own: any decision about the cut; nor what a seal writes.
 *
 * Invariants:
 * - Inputs are taken one after the other; the effects of a step are carried out after its records are durable. What has
 *   come while records were being written is decided at once, and its records are written together.
 * - When `runCut` has answered or thrown, everybody has been ordered to let go, who could answer has (within
 *   `deadlines.resumeMs`), and the stores' sessions are closed (C7).
 * - A record that cannot be persisted ends the attempt here: orders to let go are sent all the same, for they are safe
 *   at any time, and the catalog still has the cut as open, which the next start ends.
 */
import {
  beginCut,
  type Certificate,
  type CoordinatorEffect,
  type CoordinatorInput,
  type CoordinatorState,
  type CutPhase,
  type Decision,
  decideCoordinator,
  type Fact,
  nextCoordinatorDeadlineMs,
  type Order,
  type Plan,
  processesOf,
  type Verdict,
} from '@stillpoint/core'
import { type Clock, describeFailure, Failure, type FailureReport, type ParticipantName } from '@stillpoint/core/kernel'
import type { StoreCut } from '../agent/agent.ts'
import type { OperationLease } from '../catalog/catalog.ts'
import type { OperationEvent, TakePhase } from './operations.ts'
import type { ConnectedProcess, ProcessDirectory } from './process-directory.ts'

export interface SealRequest {
  readonly certificate: Certificate
  readonly verdict: Verdict
  readonly tracks: CoordinatorState['tracks']
  /** When the last mark was taken, milliseconds since 1970. */
  readonly markedAtMs: number
}

export interface CutRunOptions {
  readonly plan: Plan
  readonly planDigest: string
  readonly attempt: number
  readonly lease: Pick<OperationLease, 'recordCut'>
  readonly clock: Clock
  readonly processes: ProcessDirectory
  /** Opens the stores' part; facts of stores go to `onFact`. */
  readonly openStores: (
    onFact: (from: ParticipantName, fact: Fact) => void,
    note: (participant: string | null, text: string) => void,
  ) => Promise<StoreCut>
  /** Writes the snapshot and answers its id. Not interrupted: after it, the snapshot exists. */
  readonly seal: (request: SealRequest, stores: StoreCut) => Promise<string>
  readonly signal: AbortSignal
  readonly onEvent: (event: OperationEvent) => void
}

export type CutResult =
  | { readonly kind: 'sealed'; readonly snapshot: string; readonly verdict: Verdict['kind'] }
  | { readonly kind: 'aborted'; readonly failure: FailureReport }

/** @throws what `recordCut` and `openStores` throw; an aborted cut is an answer */
export async function runCut(options: CutRunOptions): Promise<CutResult> {
  options.signal.throwIfAborted()
  const early: { from: ParticipantName; fact: Fact }[] = []
  let run: CutRun | undefined
  const onFact = (from: ParticipantName, fact: Fact) => {
    if (run === undefined) early.push({ from, fact })
    else run.input({ type: 'factReceived', from, fact, nowMs: options.clock.monotonicMs() })
  }
  const note = (participant: string | null, text: string) => options.onEvent({ type: 'note', participant, text })
  const stores = await options.openStores(onFact, note)
  run = new CutRun(options, stores)
  try {
    for (const { from, fact } of early) onFact(from, fact)
    return await run.finished()
  } finally {
    run.stop()
    await stores.close()
  }
}

class CutRun {
  readonly #options: CutRunOptions
  readonly #stores: StoreCut
  readonly #connected = new Map<ParticipantName, ConnectedProcess>()
  readonly #result = Promise.withResolvers<CutResult>()
  readonly #unsubscribe: () => void
  readonly #onAbort: () => void
  readonly #queue: CoordinatorInput[] = []
  /** What each participant expects to capture, by what it said when it was ready. */
  readonly #estimates = new Map<ParticipantName, number>()
  #state: CoordinatorState
  #isPumping = false
  #isStopped = false
  #stopTimer: () => void = () => {}
  #markedAtMs: number
  #snapshot: string | undefined

  constructor(options: CutRunOptions, stores: StoreCut) {
    this.#options = options
    this.#stores = stores
    const { plan, planDigest, clock, processes, signal } = options
    for (const { name, incarnation } of processesOf(plan)) this.#connected.set(name, { name, incarnation })
    this.#markedAtMs = clock.wallMs()
    this.#unsubscribe = processes.subscribe((event) => {
      if (event.type !== 'fact' && event.type !== 'lost') return
      const name = event.type === 'fact' ? event.from : event.name
      // Of another life of that process: it is not the one that was planned (C8).
      if (this.#connected.get(name)?.incarnation !== event.incarnation) return
      const nowMs = clock.monotonicMs()
      if (event.type === 'fact') this.input({ type: 'factReceived', from: name, fact: event.fact, nowMs })
      else this.input({ type: 'participantLost', name, reason: 'its connection was lost', nowMs })
    })
    this.#onAbort = () => this.input({ type: 'cancelled', failure: interrupted(signal), nowMs: clock.monotonicMs() })
    signal.addEventListener('abort', this.#onAbort, { once: true })
    const begun = beginCut(plan, planDigest, clock.monotonicMs())
    this.#state = begun.state
    this.#isPumping = true
    void this.#pump([begun])
    if (signal.aborted) this.#onAbort()
  }

  input(input: CoordinatorInput): void {
    if (this.#isStopped) return
    if (input.type === 'factReceived' && input.fact.type === 'ready') {
      this.#estimates.set(input.from, input.fact.estimateBytes)
    }
    this.#queue.push(input)
    if (this.#isPumping) return
    this.#isPumping = true
    void this.#pump(this.#decideAll())
  }

  finished(): Promise<CutResult> {
    return this.#result.promise
  }

  stop(): void {
    this.#isStopped = true
    this.#stopTimer()
    this.#unsubscribe()
    this.#options.signal.removeEventListener('abort', this.#onAbort)
  }

  async #pump(first: readonly Decision[]): Promise<void> {
    try {
      for (let decisions = first; decisions.length > 0; decisions = this.#decideAll()) await this.#carryOut(decisions)
      this.#isPumping = false
      this.#armTimer()
    } catch (error) {
      this.#letGo(error)
      this.#result.reject(error)
    }
  }

  #decideAll(): readonly Decision[] {
    return this.#queue.splice(0).map((input) => {
      const decision = decideCoordinator(this.#state, input)
      this.#state = decision.state
      return decision
    })
  }

  async #carryOut(decisions: readonly Decision[]): Promise<void> {
    const records = decisions.flatMap((decision) => decision.records)
    if (records.length > 0) {
      await this.#options.lease.recordCut(
        this.#options.plan.cut,
        records.map((record) => JSON.stringify(record)),
      )
    }
    for (const { effects } of decisions) for (const effect of effects) this.#effect(effect)
  }

  #effect(effect: CoordinatorEffect): void {
    const { onEvent, attempt } = this.#options
    switch (effect.type) {
      case 'order':
        return this.#send(effect.to, effect.order)
      case 'phaseEntered': {
        if (effect.phase === 'resume') this.#markedAtMs = this.#options.clock.wallMs()
        const phase = shownPhase(effect.phase)
        if (phase !== undefined) onEvent({ type: 'phase', phase, attempt })
        return
      }
      case 'captureProgressed': {
        const { participant, bytes, files } = effect
        const estimate = this.#estimates.get(participant) ?? 0
        // An estimate that was too low says nothing about the end.
        onEvent({ type: 'progress', participant, bytes, bytesTotal: estimate > bytes ? estimate : null, files })
        return
      }
      case 'seal':
        void this.#seal(effect.certificate, effect.verdict)
        return
      case 'ended':
        return this.#end(effect.outcome)
    }
  }

  #send(to: ParticipantName, order: Order): void {
    if (this.#stores.order(to, order)) return
    const process = this.#connected.get(to)
    if (process !== undefined && this.#options.processes.send(process, order)) return
    const nowMs = this.#options.clock.monotonicMs()
    this.input({ type: 'participantLost', name: to, reason: 'it is not connected', nowMs })
  }

  async #seal(certificate: Certificate, verdict: Verdict): Promise<void> {
    const { clock, seal } = this.#options
    let answer: CoordinatorInput
    try {
      const { tracks } = this.#state
      this.#snapshot = await seal({ certificate, verdict, tracks, markedAtMs: this.#markedAtMs }, this.#stores)
      answer = { type: 'sealed', nowMs: clock.monotonicMs() }
    } catch (error) {
      answer = { type: 'sealFailed', failure: describeFailure(error), nowMs: clock.monotonicMs() }
    }
    this.input(answer)
  }

  #end(outcome: NonNullable<CoordinatorState['outcome']>): void {
    if (outcome.kind === 'aborted') return this.#result.resolve(outcome)
    if (this.#snapshot === undefined) return this.#result.reject(new Error('sealed without a snapshot'))
    this.#result.resolve({ kind: 'sealed', snapshot: this.#snapshot, verdict: outcome.verdict })
  }

  /** Everybody is told to let go, whatever the log says: a `release` is safe at any time (C7). */
  #letGo(error: unknown): void {
    const { plan, processes } = this.#options
    const { ref } = this.#state
    const order: Order = { type: 'release', ref, outcome: 'aborted', reason: describeFailure(error).message }
    for (const { name } of plan.participants) {
      const process = this.#connected.get(name)
      if (process === undefined) this.#stores.order(name, order)
      else processes.send(process, order)
    }
  }

  #armTimer(): void {
    this.#stopTimer()
    const { clock } = this.#options
    const deadlineMs = nextCoordinatorDeadlineMs(this.#state)
    if (deadlineMs === null || this.#isStopped) return
    this.#stopTimer = clock.after(Math.max(0, deadlineMs - clock.monotonicMs()), () =>
      this.input({ type: 'ticked', nowMs: clock.monotonicMs() }),
    )
  }
}

function shownPhase(phase: CutPhase): TakePhase | undefined {
  if (phase === 'collect') return 'capture'
  return phase === 'ended' ? undefined : phase
}

function interrupted(signal: AbortSignal): FailureReport {
  const reason: unknown = signal.reason
  if (reason instanceof Failure) return describeFailure(reason)
  return { code: 'interrupted', message: 'The cut was interrupted; nothing was stored', retry: 'never' }
}
