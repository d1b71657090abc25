/**
 * One simulated world and its run: faults for a while, watched for safety; then healing, watched for liveness (C10).
 *
 * Owns: what is put together, who may speak to whom, and when the judges are asked. A scenario decides everything: the
 * timeline's events run one after the other, and what they leave to microtasks is done before the next one.
 */
import type { CutOutcome, Plan } from '@stillpoint/core'
import { verdictOf } from '@stillpoint/core'
import { defined } from '@stillpoint/core/kernel'
import { cutFindings, reasonless } from '../checkers/cut.ts'
import { missingIn } from '../checkers/missing.ts'
import type { MarkedState, ObservedCut } from '../checkers/truth.ts'
import { CoordinatorNode } from './coordinator-node.ts'
import { Ledger } from './ledger.ts'
import { Links } from './links.ts'
import { Machine } from './machine.ts'
import { plague } from './nemesis.ts'
import { Network } from './network.ts'
import { Outsider } from './outsider.ts'
import { ProcessNode } from './process-node.ts'
import { createRandom, type SeededRandom } from './random.ts'
import { Durable, type Sealed } from './repository.ts'
import { restoreSnapshot } from './restore.ts'
import type { Scenario } from './scenario.ts'
import { ShellCoordinator } from './shell-coordinator.ts'
import { StoreNode } from './store-node.ts'
import { Strangers } from './strangers.ts'
import { Timeline } from './timeline.ts'
import { Trace } from './trace.ts'
import { Wire } from './wire.ts'

const startBalance = 100
/** From the end of all faults: by then whatever was begun is over, and a cut has been sealed. */
const livenessMs = 60_000
const stepsMax = 400_000
/** More than the slowest link there and back, and the calls that let a store go. */
const leftoverMs = 320

export class World {
  readonly scenario: Scenario
  readonly timeline = new Timeline()
  readonly random: SeededRandom
  readonly ledger: Ledger
  readonly durable = new Durable()
  readonly links: Links
  readonly network: Network
  readonly traced: Trace
  readonly processes = new Map<string, ProcessNode>()
  readonly stores = new Map<string, StoreNode>()
  readonly outsiders: Outsider[] = []
  readonly strangers: Strangers
  readonly findings: string[] = []
  readonly counts = { sealed: 0, aborted: 0, consistent: 0, restores: 0, takenOver: 0, steps: 0 }
  readonly wire = new Wire(this.findings)
  coordinator: CoordinatorNode | ShellCoordinator | null = null
  isFaulty = true
  #coordinatorCount = 0
  #mustSeal = false
  #sealedBefore = 0
  #troubles = 0
  #isStirred = false

  constructor(scenario: Scenario, options: { readonly isTraced: boolean }) {
    this.scenario = scenario
    this.random = createRandom(scenario.seed ^ 0x5eed)
    this.traced = new Trace(options.isTraced)
    const { processes, stores, outsiders } = scenario
    const names = [...processes, ...stores.map(({ name }) => name)]
    const people = Array.from({ length: outsiders }, (_, index) => `o${index}`)
    this.strangers = new Strangers(this)
    const guests = [...this.strangers.names]
    this.ledger = new Ledger([...names, ...people, ...guests], processes.length * startBalance)
    this.links = new Links(this, [...names, ...guests])
    for (const name of processes) {
      this.processes.set(name, new ProcessNode(this, name, { machine: this.newMachine(name), balance: startBalance }))
    }
    for (const { name } of stores) this.stores.set(name, new StoreNode(this, name, this.newMachine(name)))
    this.strangers.live()
    this.network = new Network(this)
    for (const name of people) this.outsiders.push(new Outsider(this, name))
    this.newCoordinator()
    // With the production shells, stores are driven by their coordinator and have no connection of their own.
    for (const name of scenario.hasShells ? processes : names) this.links.join(name)
    for (const name of [...processes, ...guests]) this.#live(name)
    for (const outsider of this.outsiders) outsider.live()
    plague(this)
    this.#cutAgain()
  }

  newMachine(name: string): Machine {
    const { driftPpm } = this.scenario
    const rate = 1 + (this.random.below(2 * driftPpm + 1) - driftPpm) / 1_000_000
    return new Machine(name, this.timeline, { rate, offsetMs: this.random.below(1_000_000) })
  }

  newCoordinator(): void {
    this.#coordinatorCount += 1
    const machine = this.newMachine(`coordinator-${this.#coordinatorCount}`)
    this.coordinator = this.scenario.hasShells
      ? new ShellCoordinator(this, machine)
      : new CoordinatorNode(this, machine)
  }

  trace(node: string, text: () => string, from?: string): void {
    this.traced.add(this.timeline.nowMs, node, text, from)
  }

  node(name: string): ProcessNode | StoreNode {
    return this.processes.get(name) ?? this.storeNode(name)
  }

  processNode(name: string): ProcessNode {
    return defined(this.processes.get(name), name)
  }

  storeNode(name: string): StoreNode {
    return defined(this.stores.get(name), name)
  }

  welcome(name: string, generation: number, epoch: number): void {
    this.processes.get(name)?.welcome(generation, epoch)
  }

  /** Each process begins something now and then. */
  #live(name: string): void {
    const again = (): void => {
      const node = this.processNode(name)
      if (node.isJoined) node.ownWork()
      this.timeline.at(this.timeline.nowMs + 4 + this.random.below(this.scenario.isHushed === true ? 1_000 : 60), again)
    }
    this.timeline.at(this.random.below(20), again)
  }

  #cutAgain(): void {
    const { timeline, scenario, random } = this
    timeline.at(timeline.nowMs + scenario.cutEveryMs + random.below(40), () => {
      const { coordinator } = this
      // A machine that is paused begins nothing.
      coordinator?.machine.reach(0, () => {
        // A restore writes to the catalog first, which refuses whoever is not the coordinator any more.
        const mayRestore = coordinator === this.coordinator && coordinator.isIdle
        if (scenario.hasRestores && mayRestore && random.chance(200)) this.#restore()
        coordinator.begin()
      })
      this.#cutAgain()
    })
  }

  #restore(): void {
    if (restoreSnapshot(this)) this.counts.restores += 1
  }

  outcome(plan: Plan, outcome: CutOutcome): void {
    this.trace(
      'coordinator',
      () => `${plan.cut} is ${outcome.kind}${outcome.kind === 'aborted' ? `: ${outcome.failure.message}` : ''}`,
    )
    this.counts[outcome.kind] += 1
    const ended = this.durable.cuts.get(plan.cut)?.records.filter(({ type }) => type === 'ended') ?? []
    if (ended.length > 1) this.findings.push(`${plan.cut}: ${ended.length} outcomes are persisted (C6)`)
    const exists = this.durable.find(plan.cut) !== undefined
    if (exists !== (outcome.kind === 'sealed')) {
      this.findings.push(
        `${plan.cut} is ${outcome.kind}, and its snapshot ${exists ? 'exists' : 'does not exist'} (C6)`,
      )
    }
    if (outcome.kind === 'aborted') this.#watchAbort(plan)
    if (this.scenario.shape === 'calm' && outcome.kind === 'aborted') {
      this.findings.push(`${plan.cut} is aborted, and nothing had happened: ${outcome.failure.message}`)
    }
  }

  /**
   * Nothing is left of an aborted cut whose participants could be reached all the time (C7). Who was not connected when
   * it was aborted keeps its mark until the next order to prepare, or 30 s: that is judged at the end.
   */
  #watchAbort(plan: Plan): void {
    const { coordinator, timeline, durable } = this
    const before = this.#troubles
    const isThere = ({ name }: { readonly name: string }): boolean =>
      (this.stores.has(name) && this.scenario.hasShells) || this.links.isJoined(name)
    const nodes = plan.participants.map(({ name }) => this.node(name))
    if (!nodes.every(isThere)) return
    const sinceMs = timeline.nowMs
    timeline.at(timeline.nowMs + leftoverMs, () => {
      const isSame = coordinator === this.coordinator && durable.epoch === plan.epoch && this.#troubles === before
      const isReachable = nodes.every(({ name, machine }) => {
        return (
          isThere({ name }) &&
          machine.isUp &&
          !machine.hasPausedSince(sinceMs) &&
          !this.links.wasCutSince(name, sinceMs)
        )
      })
      if (!isSame || !isReachable || coordinator?.machine.hasPausedSince(sinceMs) !== false) return
      // The hold of an agent's earlier life is left to its lease (C5): the end of the run sees that it has ended.
      const judged = nodes.filter((node) => !(node instanceof StoreNode && node.isHeldByEarlierLife))
      for (const leftover of judged.flatMap((node) => node.leftovers())) {
        this.findings.push(`${leftoverMs} ms after ${plan.cut} was aborted: ${leftover}`)
      }
    })
  }

  /** A process's shell has been spoken to: it may have left something to microtasks. */
  stir(): void {
    this.#isStirred = true
  }

  /** Something that the scenario does happens: whoever waits for quiet waits again. */
  troubled(): void {
    this.#troubles += 1
  }

  /** A snapshot begins to exist: the judges look at what it holds, and at what really happened. */
  sealed(sealed: Sealed | null): void {
    if (sealed === null) return
    const observed = this.observe(sealed)
    this.trace('coordinator', () => `${sealed.cut} is in the repository: ${observed.verdict}`)
    if (observed.verdict === 'consistent') this.counts.consistent += 1
    const ended = this.durable.cuts.get(sealed.cut)?.records.some(({ type }) => type === 'ended') === true
    if (ended) this.findings.push(`${sealed.cut} is sealed after its outcome was recorded (C6)`)
    this.findings.push(...cutFindings(observed), ...reasonless(observed, this.scenario.shape !== 'calm'))
  }

  observe({ cut, certificate, uploads }: Sealed): ObservedCut {
    const verdict = verdictOf(certificate)
    const marks = new Map<string, MarkedState>()
    const recorded: string[] = []
    for (const [name, upload] of uploads) {
      marks.set(name, upload.mark)
      recorded.push(...upload.recorded)
    }
    const redelivered = new Set<string>()
    const cutOff = new Set<string>()
    const overrun = new Set<string>()
    for (const [name, { mark }] of Object.entries(certificate.processes)) {
      if (mark.openHandlers.length > 0) cutOff.add(name)
      for (const { message, cutOffBy } of mark.openHandlers) {
        if (message !== undefined) redelivered.add(message)
        if (cutOffBy !== 'reply') for (const store of this.stores.keys()) overrun.add(store)
      }
    }
    const messages = [...this.ledger.messages.values()]
    const { tokens } = this.ledger
    const strangers = new Set<number>()
    for (const name of this.strangers.names) if (!uploads.has(name)) strangers.add(this.ledger.indexOf(name))
    return {
      cut,
      verdict: verdict.kind,
      reasons: verdict.reasons,
      marks,
      recorded,
      messages,
      tokens,
      missing: this.ledger.sentAs(missingIn(certificate)),
      redelivered,
      cutOff,
      overrun,
      strangers,
    }
  }

  /** @returns what the judges found wrong; nothing is what must come out */
  async run(): Promise<readonly string[]> {
    const { healMs } = this.scenario
    let untilMs = Number.POSITIVE_INFINITY
    for (;;) {
      const nextMs = this.timeline.nextMs()
      if (this.#found().length > 0 || nextMs === undefined || nextMs > untilMs) break
      if (this.isFaulty && nextMs >= healMs) {
        this.isFaulty = false
        untilMs = healMs + livenessMs
        this.#mustSeal = true
        this.#sealedBefore = this.counts.sealed
      }
      this.timeline.step()
      this.counts.steps += 1
      // Shells speak to applications in microtasks: all of them run before the next event does.
      if (this.scenario.hasShells || this.#isStirred) await drained(this.scenario.hasShells)
      this.#isStirred = false
      if (this.counts.steps > stepsMax)
        this.findings.push(`more than ${stepsMax} steps: something goes round in circles`)
      if (this.#mustSeal && this.#sealedSince() >= 2 && this.#isQuiet()) break
    }
    this.#judgeEnd()
    return this.#found()
  }

  #sealedSince(): number {
    return this.counts.sealed - this.#sealedBefore
  }

  #isQuiet(): boolean {
    return this.coordinator?.isIdle === true && this.durable.open() === undefined && this.#leftovers().length === 0
  }

  #leftovers(): readonly string[] {
    // Whoever has left for good has left nothing.
    const isGone = ({ name, machine }: ProcessNode): boolean => !machine.isUp && this.strangers.names.has(name)
    const processes = [...this.processes.values()].filter((node) => !isGone(node))
    return [...processes, ...this.stores.values()].flatMap((node) => node.leftovers())
  }

  #judgeEnd(): void {
    if (this.#found().length > 0 || !this.#mustSeal) return
    if (this.#sealedSince() < 2) {
      this.findings.push(`${this.#sealedSince()} cuts sealed within ${livenessMs} ms after all faults (C10)`)
    }
    if (!this.#isQuiet()) this.findings.push(...this.#leftovers(), 'something is left of a cut after all faults (C7)')
  }

  #found(): readonly string[] {
    return this.ledger.findings.length === 0 ? this.findings : [...this.findings, ...this.ledger.findings]
  }
}

/** How many turns of the microtask queue the longest chain in the SDK's shell takes, and some more. */
const turns = 12

/** When the shells' microtasks have run. Nothing of this machine's time comes in: the order is the queue's. */
async function drained(hasShells: boolean): Promise<void> {
  // The coordinator's shells wait for each other in chains of any length.
  if (hasShells) await new Promise((resolve) => setImmediate(resolve))
  else for (let turn = 0; turn < turns; turn += 1) await null
}
