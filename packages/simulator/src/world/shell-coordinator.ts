/**
 * A simulated coordinator made of the production shells: cut-run.ts, and a store-participant.ts per store, which lives
 * and dies with it. Only what they inject is simulated: clock, catalog, connections, sessions of stores, repository.
 *
 * What another coordinator has left is ended as local-system.ts does it: the repository decides, and nothing is resumed.
 */
import type { Certificate, CutRecord, Order, Plan } from '@stillpoint/core'
import { type CutId, Failure, type Incarnation, participantName } from '@stillpoint/core/kernel'
import type { StoreCut } from '../../../stillpoint/src/agent/agent.ts'
import { StoreParticipant } from '../../../stillpoint/src/agent/store-participant.ts'
import { type CutRunOptions, runCut } from '../../../stillpoint/src/coordinator/cut-run.ts'
import type { ProcessEvent } from '../../../stillpoint/src/coordinator/process-directory.ts'
import type { Machine } from './machine.ts'
import { planCut } from './plan-cut.ts'
import { StorageError } from './repository.ts'
import { storeSession } from './store-session.ts'
import { digestOfPlan, treeOfNobody } from './wire.ts'
import type { World } from './world.ts'

const retryMs = 50

export class ShellCoordinator {
  readonly machine: Machine
  readonly fencing: number
  readonly #world: World
  readonly #listeners = new Set<(event: ProcessEvent) => void>()
  #plan: Plan | null = null
  #participants = 0
  /** What the coordinator before has left is ended: not before that is a cut begun. */
  #isReady = false

  constructor(world: World, machine: Machine) {
    this.#world = world
    this.machine = machine
    world.durable.fencing += 1
    this.fencing = world.durable.fencing
    machine.reach(1, () => this.#endOpenCut())
  }

  get isIdle(): boolean {
    return this.#plan === null
  }

  crash(): void {
    this.machine.crash()
  }

  fact(from: string, fact: Extract<ProcessEvent, { type: 'fact' }>['fact']): void {
    this.#tell({ type: 'fact', from: participantName(from), incarnation: this.#planned(from), fact })
  }

  lost(name: string): void {
    this.#tell({ type: 'lost', name: participantName(name), incarnation: this.#planned(name) })
  }

  #tell(event: ProcessEvent): void {
    for (const listener of this.#listeners) listener(event)
  }

  /** The connection is of the incarnation that was planned, or the links would have dropped it. */
  #planned(name: string): Incarnation {
    const found = this.#plan?.participants.find((participant) => participant.name === name)
    return found?.kind === 'process' ? found.incarnation : this.#world.processNode(name).incarnation
  }

  begin(): void {
    const { durable, scenario, links } = this.#world
    if (!this.#isReady || !this.isIdle || durable.open() !== undefined || this.#world.coordinator !== this) return
    if (!scenario.processes.every((name) => links.isJoined(name))) return
    const plan = planCut(this.#world, this.fencing)
    this.#plan = plan
    this.#world.trace('coordinator', () => `begins ${plan.cut}`)
    const over = (error?: unknown): void => {
      this.#plan = null
      if (error === undefined || error instanceof StorageError) return
      this.#world.findings.push(`the shell of ${plan.cut} failed: ${String(error)}`)
    }
    runCut(this.#options(plan)).then(() => over(), over)
  }

  #options(plan: Plan): CutRunOptions {
    const { links } = this.#world
    return {
      plan,
      planDigest: digestOfPlan(plan),
      attempt: 1,
      lease: { recordCut: (cut, lines) => this.#record(plan, cut, lines) },
      clock: this.machine,
      processes: {
        connected: () => [],
        send: ({ name }, order) => {
          if (this.#world.coordinator === this) return links.order(name, order)
          links.orderFromThePast(name, order)
          return true
        },
        offerRestore: () => false,
        subscribe: (listener) => {
          this.#listeners.add(listener)
          return () => this.#listeners.delete(listener)
        },
      },
      openStores: (onFact) => Promise.resolve(this.#openStores(plan, onFact)),
      seal: ({ certificate }) => this.#seal(this.#world.wire.certificate(certificate)),
      signal: new AbortController().signal,
      onEvent: (event) =>
        this.#world.trace('coordinator', () => (event.type === 'phase' ? `— ${event.phase}` : event.type)),
    }
  }

  #openStores(plan: Plan, onFact: Parameters<CutRunOptions['openStores']>[0]): StoreCut {
    const participants = new Map<string, StoreParticipant>()
    for (const participant of plan.participants) {
      if (participant.kind !== 'store') continue
      const { name } = participant
      this.#participants += 1
      const store = new StoreParticipant({
        name,
        incarnation: `${name}-${this.fencing}-${this.#participants}` as Incarnation,
        clock: this.machine,
        closeWaitMs: plan.deadlines.resumeMs,
        open: () => Promise.resolve(storeSession(this.#world, name, this.machine)),
        newSink: () => ({
          file: () => Promise.resolve({ bytes: 1 }),
          directory: () => Promise.resolve({ bytes: 1, files: 1, torn: [] }),
          finish: () => Promise.resolve({ tree: treeOfNobody, notes: [] }),
        }),
        report: (fact) => onFact(name, fact),
        note: (text) => this.#world.trace(name, () => text),
      })
      participants.set(name, store)
    }
    const order = (to: string, one: Order): boolean => {
      participants.get(to)?.order(one)
      return participants.has(to)
    }
    const close = async (): Promise<void> => {
      await Promise.all([...participants.values()].map((participant) => participant.close()))
    }
    // What of a StoreCut is for the repository alone: `seal` below has a repository of its own.
    return { order, close } as unknown as StoreCut
  }

  #record(plan: Plan, cut: CutId, lines: readonly string[]): Promise<void> {
    const { durable, random } = this.#world
    return new Promise((resolve, reject) => {
      this.machine.after(random.below(4), () => {
        try {
          const records = lines.map((line) => JSON.parse(line) as CutRecord)
          durable.record(this.fencing, plan, records)
          for (const record of records) if (record.type === 'ended') this.#world.outcome(plan, record.outcome)
          resolve()
        } catch (error) {
          this.#world.trace('coordinator', () => `cannot record ${cut}: ${String(error)}`)
          reject(error)
        }
      })
    })
  }

  /** What a seal must do: an error is answered only when it is known that nothing was written. */
  #seal(certificate: Certificate): Promise<string> {
    const { durable, random, scenario } = this.#world
    const { cut } = certificate.plan
    return new Promise((resolve, reject) => {
      const failed = (message: string): void =>
        reject(new Failure({ code: 'repository_failed', message, retry: 'later' }))
      const find = (message: string): void => {
        if (scenario.sealsBlindly === true) return failed(message)
        if (durable.storage === 'failing') return void this.machine.after(retryMs, () => find(message))
        if (durable.find(cut) !== undefined) resolve(cut)
        else failed(message)
      }
      const { storage } = durable
      this.machine.after(random.below(storage === 'slow' ? 900 : 12), () => {
        try {
          this.#world.sealed(durable.seal(certificate))
          if (storage === 'lying' && random.chance(700)) return find('the connection to the repository broke')
          resolve(cut)
        } catch (error) {
          find(error instanceof Error ? error.message : String(error))
        }
      })
    })
  }

  #endOpenCut(): void {
    const { durable, links } = this.#world
    if (durable.storage === 'failing') return void this.machine.after(retryMs, () => this.#endOpenCut())
    this.#isReady = true
    const open = durable.open()
    // Somebody else has taken over meanwhile: it is not this one's to end.
    if (open === undefined || this.fencing < durable.fencing) return
    const { plan } = open
    const { cut, epoch, generation, fencing } = plan
    const failure = {
      code: 'coordinator_restarted',
      message: 'its coordinator ended before it',
      retry: 'later',
    } as const
    const outcome =
      durable.find(cut) === undefined
        ? ({ kind: 'aborted', failure } as const)
        : ({ kind: 'sealed', verdict: 'consistent' } as const)
    durable.record(this.fencing, plan, [{ type: 'ended', outcome }])
    this.#world.outcome(plan, outcome)
    const release = { type: 'release', ref: { cut, epoch, generation, fencing }, outcome: outcome.kind } as const
    for (const { kind, name } of plan.participants) if (kind === 'process') links.order(name, release)
  }
}
