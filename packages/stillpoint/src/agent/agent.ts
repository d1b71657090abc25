/**
 * Works beside the stores of one node: marks, captures and restores them.
 *
 * Owns: the sources' sessions, the scratch directories, and one save per cut, into which all its participants go.
 * Does not own: the order of the steps (core/cut), nor when a cut is sealed.
 *
 * Invariants:
 * - After `StoreCut.close`, every session of the cut is closed: nothing is held, no mark is pinned (C7), and the
 *   scratch directories are gone. What a crash leaves there is removed by `cleanScratch`, under the system's lock.
 * - A save that was not kept is discarded.
 */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Fact, type Order, type Plan, processesOf, storesOf } from '@stillpoint/core'
import {
  type Clock,
  type CutId,
  defined,
  type Entropy,
  Failure,
  type Incarnation,
  type ParticipantName,
} from '@stillpoint/core/kernel'
import type { Repository, Save } from '@stillpoint/repository'
import type { StoreConfig } from '../config/system-config.ts'
import type { SourceEnvironment, SourceSession } from '../sources/source.ts'
import { RepositorySink } from './capture-sink.ts'
import { type CutUploads, ProcessCaptures } from './process-captures.ts'
import { StoreParticipant } from './store-participant.ts'
import { UnheldStores } from './unheld-stores.ts'

/** `openSource` of sources/registry.ts, or what a test puts in its place. */
export type OpenSource = (store: StoreConfig, env: SourceEnvironment, signal: AbortSignal) => Promise<SourceSession>

export interface AgentOptions {
  readonly clock: Clock
  readonly entropy: Entropy
  readonly baseDir: string
  /** Absolute path. Only this system's agent uses it. */
  readonly scratchRoot: string
  readonly openSource: OpenSource
}

export interface StoreCutOptions {
  readonly plan: Plan
  readonly stores: readonly StoreConfig[]
  readonly repository: Repository
  readonly onFact: (from: ParticipantName, fact: Fact) => void
  readonly note: (participant: string | null, text: string) => void
}

/** The stores' part of one cut, and the save that everybody's captures go into. */
export interface StoreCut {
  readonly save: Save
  readonly uploads: CutUploads
  /** False when no store of this agent has that name. */
  order(to: ParticipantName, order: Order): boolean
  /** Undoes what is left, closes all sessions, discards the save unless it was finished. Bounded; never throws. */
  close(): Promise<void>
}

export class Agent {
  readonly captures = new ProcessCaptures()
  readonly #options: AgentOptions

  constructor(options: AgentOptions) {
    this.#options = options
  }

  /** Removes what a crash left. Only while this system's operation lock is held. */
  async cleanScratch(): Promise<void> {
    const { scratchRoot } = this.#options
    await rm(scratchRoot, { recursive: true, force: true })
    await mkdir(scratchRoot, { recursive: true, mode: 0o700 })
  }

  async openCut(options: StoreCutOptions): Promise<StoreCut> {
    const { plan, stores, repository, onFact, note } = options
    const save = await repository.startSave()
    const over = new AbortController()
    const scratch = join(this.#options.scratchRoot, plan.cut)
    const participants = new Map<ParticipantName, StoreParticipant>()
    const unheld = new UnheldStores(this.#options.clock)
    for (const { name, grade } of storesOf(plan)) {
      const store = defined(
        stores.find((each) => each.name === name),
        `the configuration of ${name}`,
      )
      const participant = new StoreParticipant({
        name,
        incarnation: this.#newIncarnation(),
        clock: this.#options.clock,
        closeWaitMs: plan.deadlines.resumeMs,
        open: async (signal) => {
          const session = await this.openSession(store, { scratchDir: join(scratch, name), note, signal })
          return grade === 'quiesced' ? unheld.join(name, session) : session
        },
        newSink: (onProgress, signal) => new RepositorySink({ save, onProgress, signal }),
        report: (fact) => onFact(name, fact),
        note: (text) => note(name, text),
      })
      participants.set(name, participant)
    }
    const processes = processesOf(plan).map(({ name }) => name)
    const uploads = this.captures.openCut(plan.cut, { save, signal: over.signal, processes })
    return {
      save,
      uploads,
      order(to, order) {
        const participant = participants.get(to)
        participant?.order(order)
        return participant !== undefined
      },
      async close() {
        uploads.close()
        over.abort(cutOver(plan.cut))
        await Promise.all([...participants.values()].map((participant) => participant.close()))
        const failed = (what: string) => (error: unknown) => note(null, `${what}: ${String(error)}`)
        await save.discard().catch(failed('The data of the attempt could not be removed; it is unreferenced'))
        await rm(scratch, { recursive: true, force: true }).catch(failed(`${scratch} could not be removed`))
      },
    }
  }

  /** A session of its own, for a cut or a restore. Its caller closes it. */
  async openSession(
    store: StoreConfig,
    options: {
      readonly scratchDir: string
      readonly note: (participant: string | null, text: string) => void
      readonly signal: AbortSignal
    },
  ): Promise<SourceSession> {
    const { scratchDir, note, signal } = options
    await mkdir(scratchDir, { recursive: true, mode: 0o700 })
    const { clock, baseDir, openSource } = this.#options
    const env = { clock, baseDir, scratchDir, note: (text: string) => note(store.name, text) }
    return openSource(store, env, signal)
  }

  get openSource(): OpenSource {
    return this.#options.openSource
  }

  /** A private directory below the scratch root. */
  scratchDir(...path: readonly string[]): string {
    return join(this.#options.scratchRoot, ...path)
  }

  #newIncarnation(): Incarnation {
    const bytes = new Uint8Array(8)
    this.#options.entropy.fill(bytes)
    return Buffer.from(bytes).toString('hex') as Incarnation
  }
}

function cutOver(cut: CutId): Failure {
  return new Failure({ code: 'cut_unknown', message: `The cut ${cut} is over`, retry: 'later' })
}
