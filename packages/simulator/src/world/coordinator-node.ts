/**
 * A simulated coordinator: the production machine, records that are durable before the effects of their step leave, and
 * the takeover of what another coordinator has left. The same rules as cut-run.ts, which begins cuts and takes over none.
 */
import {
  beginCut,
  type Certificate,
  type CoordinatorEffect,
  type CoordinatorInput,
  type CoordinatorState,
  type CutRef,
  type Decision,
  decideCoordinator,
  type Fact,
  nextCoordinatorDeadlineMs,
  type Plan,
  recoverCut,
} from '@stillpoint/core'
import { participantName } from '@stillpoint/core/kernel'
import type { Machine } from './machine.ts'
import { planCut } from './plan-cut.ts'
import { StorageError } from './repository.ts'
import type { World } from './world.ts'

const sealRetryMs = 50

export class CoordinatorNode {
  readonly machine: Machine
  readonly fencing: number
  readonly #world: World
  #state: CoordinatorState | null = null
  readonly #queue: CoordinatorInput[] = []
  #isBusy = false
  #isFenced = false
  /** What the coordinator before has left is seen to: not before that is a cut begun. */
  #isReady = false
  #stopTimer: () => void = () => {}

  constructor(world: World, machine: Machine) {
    this.#world = world
    this.machine = machine
    world.durable.fencing += 1
    this.fencing = world.durable.fencing
    machine.reach(1, () => this.#takeOver())
  }

  get isIdle(): boolean {
    return !this.#isBusy && this.#queue.length === 0 && (this.#state === null || this.#state.phase === 'ended')
  }

  /** Begins a cut, if there is nobody missing and no other cut. */
  begin(): void {
    const { durable, scenario, links } = this.#world
    const names = [...scenario.processes, ...scenario.stores.map(({ name }) => name)]
    if (this.#isFenced || !this.#isReady || !this.isIdle || durable.open() !== undefined) return
    if (!names.every((name) => links.isJoined(name))) return
    const plan = planCut(this.#world, this.fencing)
    this.#world.trace('coordinator', () => `begins ${plan.cut}`)
    this.#carryOut(plan, beginCut(plan, 'digest', this.machine.monotonicMs()))
  }

  fact(from: string, fact: Fact): void {
    this.#input({ type: 'factReceived', from: participantName(from), fact, nowMs: this.machine.monotonicMs() })
  }

  lost(name: string): void {
    const nowMs = this.machine.monotonicMs()
    this.#input({ type: 'participantLost', name: participantName(name), reason: 'its connection was lost', nowMs })
  }

  crash(): void {
    this.machine.crash()
  }

  #input(input: CoordinatorInput): void {
    if (this.#state === null || this.#isFenced) return
    this.#queue.push(input)
    this.#pump()
  }

  #pump(): void {
    while (!this.#isBusy && this.#state !== null) {
      const input = this.#queue.shift()
      if (input === undefined) break
      this.#carryOut(this.#state.plan, decideCoordinator(this.#state, input))
    }
    this.#armTimer()
  }

  /** Records first; they take their time, and whoever's lease is over writes none. */
  #carryOut(plan: Plan, { state, records, effects }: Decision): void {
    this.#state = state
    if (records.length === 0) {
      for (const effect of effects) this.#effect(effect)
      return
    }
    this.#isBusy = true
    this.machine.after(this.#world.random.below(4), () => {
      try {
        this.#world.durable.record(this.fencing, plan, records)
      } catch (error) {
        if (!(error instanceof StorageError)) throw error
        return this.#fenced(plan)
      }
      for (const record of records) {
        if (record.type === 'ended') this.#world.outcome(plan, record.outcome)
      }
      this.machine.after(this.#world.random.below(3), () => {
        for (const effect of effects) this.#effect(effect)
        this.#isBusy = false
        this.#pump()
      })
    })
  }

  /** Somebody else is the coordinator. Letting go is safe at any time, and does nothing to newer cuts (C8). */
  #fenced(plan: Plan): void {
    this.#isFenced = true
    this.#queue.length = 0
    const { cut, epoch, generation, fencing } = plan
    const ref: CutRef = { cut, epoch, generation, fencing }
    this.#world.trace('coordinator', () => `with token ${this.fencing} is not the coordinator any more`)
    for (const { name } of plan.participants) {
      this.#world.links.orderFromThePast(name, { type: 'release', ref, outcome: 'aborted' })
    }
  }

  #effect(effect: CoordinatorEffect): void {
    const { links, coordinator } = this.#world
    switch (effect.type) {
      case 'order':
        if (coordinator !== this) return links.orderFromThePast(effect.to, effect.order)
        if (!links.order(effect.to, effect.order)) this.lost(effect.to)
        return
      case 'seal':
        return this.#seal(effect.certificate)
      case 'phaseEntered':
        return this.#world.trace('coordinator', () => `— ${effect.phase}`)
      case 'ended':
      case 'captureProgressed':
        return
    }
  }

  #seal(certificate: Certificate): void {
    const { durable, random } = this.#world
    const { storage } = durable
    this.machine.after(random.below(storage === 'slow' ? 900 : 12), () => {
      try {
        this.#world.sealed(durable.seal(certificate))
        if (storage === 'lying' && random.chance(700)) throw new StorageError('the connection to the repository broke')
        this.#input({ type: 'sealed', nowMs: this.machine.monotonicMs() })
      } catch (error) {
        if (!(error instanceof StorageError)) throw error
        this.#findOut(certificate, error.message)
      }
    })
  }

  /** An error says nothing about whether it was written: the repository does. */
  #findOut(certificate: Certificate, message: string): void {
    const { durable } = this.#world
    const nowMs = this.machine.monotonicMs()
    if (durable.storage === 'failing') {
      this.machine.after(sealRetryMs, () => this.#findOut(certificate, message))
      return
    }
    if (durable.find(certificate.plan.cut) !== undefined) return this.#input({ type: 'sealed', nowMs })
    this.#input({ type: 'sealFailed', failure: { code: 'repository_failed', message, retry: 'later' }, nowMs })
  }

  /** What is in the repository exists; otherwise the records of the coordinator before decide. */
  #takeOver(): void {
    const { durable, links } = this.#world
    if (durable.storage === 'failing') {
      this.machine.after(sealRetryMs, () => this.#takeOver())
      return
    }
    this.#isReady = true
    const last = durable.open() ?? [...durable.cuts.values()].at(-1)
    // Somebody else has taken over meanwhile: it is not this one's to end.
    if (last === undefined || this.fencing < durable.fencing) return
    const { plan, records } = last
    if (last !== durable.open() || durable.find(plan.cut) === undefined) {
      const decision = recoverCut(records, this.machine.monotonicMs())
      this.#world.trace('coordinator', () => `takes ${plan.cut} over: ${decision?.state.phase ?? 'it is over'}`)
      if (decision !== null) this.#carryOut(plan, decision)
      return
    }
    const outcome = { kind: 'sealed', verdict: 'consistent' } as const
    durable.record(this.fencing, plan, [{ type: 'ended', outcome }])
    this.#world.outcome(plan, outcome)
    const { cut, epoch, generation, fencing } = plan
    for (const { name } of plan.participants) {
      links.order(name, { type: 'release', ref: { cut, epoch, generation, fencing }, outcome: 'sealed' })
    }
  }

  #armTimer(): void {
    this.#stopTimer()
    if (this.#state === null || this.#isBusy || this.#isFenced) return
    const deadlineMs = nextCoordinatorDeadlineMs(this.#state)
    if (deadlineMs === null || this.#state.phase === 'ended') return
    const { machine } = this
    this.#stopTimer = machine.after(Math.max(0, deadlineMs - machine.monotonicMs()), () =>
      this.#input({ type: 'ticked', nowMs: machine.monotonicMs() }),
    )
  }
}
