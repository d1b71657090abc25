/**
 * One store in one cut: the shell around `decideStore` (core/cut/store.ts). It carries out the calls against a source
 * session that it opens for this cut and closes after it.
 *
 * Owns: the session's life, one signal per cut, the timer of the lease. Does not own: the order of the calls, which is
 * `decideStore`'s, nor where captured bytes go.
 *
 * Invariants:
 * - One call at a time; a `cancel` aborts the one that runs, and `resume` and `release` have no signal: nothing
 *   interrupts the undoing (C7).
 * - After `close` has resolved, the session is closed, so whatever it held is let go (C5).
 */
import {
  type CaptureEvidence,
  type CutRef,
  decideStore,
  type Fact,
  initialStore,
  nextStoreDeadlineMs,
  type Order,
  type StoreAnswer,
  type StoreCall,
  type StoreInput,
  type StoreState,
} from '@stillpoint/core'
import {
  assert,
  type Clock,
  describeFailure,
  Failure,
  type Incarnation,
  type ParticipantName,
} from '@stillpoint/core/kernel'
import type { CaptureProgress, CaptureSink, SourceSession } from '../sources/source.ts'

/** A sink whose parts become one tree. */
export interface ParticipantSink extends CaptureSink {
  /** Stores the tree over all parts. `notes`: what was left out by its nature. */
  finish(): Promise<{ readonly tree: CaptureEvidence['tree']; readonly notes: readonly string[] }>
}

export interface StoreParticipantOptions {
  readonly name: ParticipantName
  readonly incarnation: Incarnation
  readonly clock: Clock
  /** How long `close` waits for a call that does not answer, before it closes the connection under it. */
  readonly closeWaitMs: number
  /** Opens the store; called once, by the first `prepare`. */
  readonly open: (signal: AbortSignal) => Promise<SourceSession>
  /** A new sink for each try of a capture: parts of a failed one are dropped. */
  readonly newSink: (onProgress: (progress: CaptureProgress) => void, signal: AbortSignal) => ParticipantSink
  readonly report: (fact: Fact) => void
  /** What failed while the cut was being undone: there is nobody to report it to. */
  readonly note: (text: string) => void
}

export class StoreParticipant {
  readonly #options: StoreParticipantOptions
  readonly #controller = new AbortController()
  #state: StoreState
  #session: SourceSession | undefined
  #stopTimer: () => void = () => {}
  #running: Promise<void> = Promise.resolve()
  #isOver: (() => void) | undefined

  constructor(options: StoreParticipantOptions) {
    this.#options = options
    this.#state = initialStore(options.name, options.incarnation)
  }

  order(order: Order): void {
    this.#take({ type: 'ordered', order, nowMs: this.#nowMs() })
  }

  /** Undoes what is left of the cut, then closes the session. Bounded. Never throws: failures are noted. */
  async close(): Promise<void> {
    this.#take({ type: 'disconnected', nowMs: this.#nowMs() })
    await this.#untilOver()
    this.#stopTimer()
    try {
      await this.#session?.close()
    } catch (error) {
      this.#note('closing', error)
    }
  }

  #nowMs(): number {
    return this.#options.clock.monotonicMs()
  }

  #take(input: StoreInput): void {
    const { state, effects } = decideStore(this.#state, input)
    this.#state = state
    for (const effect of effects) {
      if (effect.type === 'report') this.#options.report(effect.fact)
      else if (effect.type === 'cancel') this.#controller.abort(cancelled(this.#options.name))
      else this.#running = this.#call(effect.ref, effect.call)
    }
    this.#armTimer()
    if (this.#state.work === null) this.#isOver?.()
  }

  #armTimer(): void {
    this.#stopTimer()
    const deadlineMs = nextStoreDeadlineMs(this.#state)
    if (deadlineMs === null) return
    const tick = () => this.#take({ type: 'ticked', nowMs: this.#nowMs() })
    this.#stopTimer = this.#options.clock.after(Math.max(0, deadlineMs - this.#nowMs()), tick)
  }

  async #call(ref: CutRef, call: StoreCall): Promise<void> {
    let input: StoreInput
    try {
      const answer = await this.#answer(ref, call)
      input = { type: 'answered', ref, answer, nowMs: this.#nowMs() }
    } catch (error) {
      // `disconnected` and `release` cancel what runs: its failure is theirs.
      if (call.call === 'resume' || call.call === 'release') this.#note(`"${call.call}"`, error)
      const failure = describeFailure(error)
      input = { type: 'callFailed', ref, call: call.call, failure, nowMs: this.#nowMs() }
    }
    this.#take(input)
  }

  async #answer(ref: CutRef, call: StoreCall): Promise<StoreAnswer> {
    const { signal } = this.#controller
    switch (call.call) {
      case 'prepare': {
        this.#session ??= await this.#options.open(signal)
        return { call: 'prepare', ...(await this.#session.prepare(ref.cut, signal)) }
      }
      case 'quiesce': {
        const { endsAtMs } = await this.#opened().quiesce(ref.cut, call.leaseMs, signal)
        return { call: 'quiesce', endsAtMs }
      }
      case 'mark': {
        const { position, caveats } = await this.#opened().mark(ref.cut, signal)
        return { call: 'mark', position, caveats }
      }
      case 'resume': {
        // A store that could not be opened holds nothing.
        if (this.#session === undefined) return { call: 'resume', unbroken: false, detail: 'it was never held' }
        return { call: 'resume', ...(await this.#session.resume(ref.cut)) }
      }
      case 'capture':
        return { call: 'capture', evidence: await this.#capture(ref) }
      case 'release':
        await this.#session?.release(ref.cut)
        return { call: 'release' }
    }
  }

  async #capture(ref: CutRef): Promise<CaptureEvidence> {
    const { signal } = this.#controller
    const onProgress = (progress: CaptureProgress) => this.#take({ type: 'captureProgressed', ref, ...progress })
    const sink = this.#options.newSink(onProgress, signal)
    const { bytes, files, torn, notes } = await this.#opened().capture(ref.cut, sink, signal)
    signal.throwIfAborted()
    const finished = await sink.finish()
    return { tree: finished.tree, bytes, files, torn, notes: [...notes, ...finished.notes], channels: {} }
  }

  #opened(): SourceSession {
    assert(this.#session !== undefined, `a call to ${this.#options.name} before it was prepared`)
    return this.#session
  }

  async #untilOver(): Promise<void> {
    if (this.#state.work === null) return this.#running
    const { clock, closeWaitMs } = this.#options
    const over = Promise.withResolvers<'over' | 'late'>()
    this.#isOver = () => over.resolve('over')
    const stop = clock.after(closeWaitMs, () => over.resolve('late'))
    if ((await over.promise) === 'late') {
      this.#note('letting go', new Error(`no answer within ${closeWaitMs / 1000} s; its connection is closed instead`))
    }
    stop()
  }

  #note(doing: string, error: unknown): void {
    this.#options.note(`${this.#options.name}: ${doing} failed: ${describeFailure(error).message}`)
  }
}

function cancelled(name: ParticipantName): Failure {
  return new Failure({
    code: 'cut_cancelled',
    message: `The cut was given up while "${name}" was at work`,
    retry: 'later',
  })
}
