/**
 * A world of up to ten thousand processes and one cut: the SDK's shell around the production machine in each, the
 * production coordinator with its shell (cut-run.ts), and every order, fact and the certificate as JSON through the
 * production's readers, as on a wire. Nothing goes wrong in it: what is looked at is what a cut costs.
 *
 * Owns: connections, virtual time, counts. Does not own: any decision of the protocol.
 */
import { type Certificate, type Fact, makePlan, type Order, type Plan } from '@stillpoint/core'
import { assert, type CutId, channelId, defined, participantName, type SessionId } from '@stillpoint/core/kernel'
import type { StoreCut } from '../../../stillpoint/src/agent/agent.ts'
import { runCut } from '../../../stillpoint/src/coordinator/cut-run.ts'
import type { ProcessEvent } from '../../../stillpoint/src/coordinator/process-directory.ts'
import { Machine } from '../world/machine.ts'
import { createRandom, type SeededRandom } from '../world/random.ts'
import { Timeline } from '../world/timeline.ts'
import { digestOfPlan, Wire } from '../world/wire.ts'
import { type Message, ScaleProcess } from './scale-process.ts'
import { type TopologyName, topologies } from './topology.ts'

/** When the cut begins: the application has been running for a while. */
const warmMs = 200
const deadlineMs = 600_000
/** How long a disk takes to have what it was given. */
const commitMs = 2

export interface ScaleCounts {
  readonly processes: number
  readonly channels: number
  orders: number
  facts: number
  markers: number
  /** Of the application, from the first to the end of the cut. */
  messages: number
  recorded: number
  /** How often the coordinator had to wait for its disk. */
  commits: number
  /** Orders and facts, as JSON. */
  wireBytes: number
  recordBytes: number
  certificateBytes: number
  /** Of the cut, from its plan to its end: the whole world's, with its application. */
  cpuMs: number
}

export class ScaleWorld {
  readonly timeline = new Timeline()
  readonly random: SeededRandom
  readonly findings: string[] = []
  readonly counts: ScaleCounts
  readonly #wire = new Wire(this.findings)
  readonly #machine: Machine
  readonly #processes: readonly ScaleProcess[]
  readonly #used = new Map<ScaleProcess, ScaleProcess['outbound']>()
  readonly #byName = new Map<string, ScaleProcess>()
  readonly #messages: Message[] = []
  readonly #listeners = new Set<(event: ProcessEvent) => void>()

  constructor(options: { readonly topology: TopologyName; readonly processes: number; readonly seed: number }) {
    this.random = createRandom(options.seed)
    this.#machine = new Machine('coordinator', this.timeline, { rate: 1, offsetMs: 0 })
    this.#processes = Array.from(
      { length: options.processes },
      (_, index) => new ScaleProcess(this, participantName(`p${index}`)),
    )
    for (const process of this.#processes) {
      this.#byName.set(process.name, process)
      process.shell.feed({ type: 'generationEntered', generation: 1, epoch: 0 })
    }
    const { channels, used } = topologies[options.topology](options.processes, this.random)
    const at = (index: number): ScaleProcess => defined(this.#processes[index], `process ${index}`)
    const links = new Map<string, ScaleProcess['outbound'][number]>()
    for (const [from, to] of channels) {
      const [sender, receiver] = [at(from), at(to)]
      const channel = channelId(sender.name, receiver.name)
      sender.shell.openSession(channel, `${channel}/1` as SessionId, { fifo: true, volatile: false })
      const link = { channel, to: receiver, lastAtMs: 0 }
      sender.outbound.push(link)
      links.set(`${from} ${to}`, link)
    }
    for (const process of this.#processes) this.#used.set(process, [])
    for (const [from, to] of used) this.#used.get(at(from))?.push(defined(links.get(`${from} ${to}`), `${from}→${to}`))
    const none = { orders: 0, facts: 0, markers: 0, messages: 0, recorded: 0, commits: 0 }
    const bytes = { wireBytes: 0, recordBytes: 0, certificateBytes: 0, cpuMs: 0 }
    this.counts = { processes: options.processes, channels: channels.length, ...none, ...bytes }
    for (const process of this.#processes) process.live()
  }

  usedBy(process: ScaleProcess): ScaleProcess['outbound'] {
    return this.#used.get(process) ?? []
  }

  sent(message: Pick<Message, 'to' | 'isAfter' | 'sentInside'>): Message {
    const one = { ...message, id: `m${this.#messages.length}`, receivedInside: false }
    this.#messages.push(one)
    return one
  }

  report(from: ScaleProcess, said: Fact): void {
    this.counts.facts += 1
    const fact = this.#wire.fact(said)
    this.#machine.reach(1 + this.random.below(4), () => {
      const event: ProcessEvent = { type: 'fact', from: from.name, incarnation: from.incarnation, fact }
      for (const listener of this.#listeners) listener(event)
    })
  }

  /** Runs until the cut has ended. @returns what the judges found wrong; nothing is what must come out */
  async run(): Promise<readonly string[]> {
    await this.#until(() => this.timeline.nowMs >= warmMs)
    const started = process.cpuUsage()
    let ended: string | null = null
    this.#cut().then(
      (result) => {
        ended = result
      },
      (error: unknown) => {
        ended = String(error)
      },
    )
    await this.#until(() => ended !== null)
    const { user, system } = process.cpuUsage(started)
    this.counts.cpuMs = (user + system) / 1_000
    this.counts.messages = this.#messages.length
    this.counts.wireBytes = this.#wire.bytes
    if (ended !== 'sealed: consistent') this.findings.push(`the cut has ended as ${ended}`)
    this.#judgeMessages()
    for (const { shell, name } of this.#processes) {
      const { gate, work } = shell.state()
      if (gate.kind !== 'open' || work !== null) this.findings.push(`something is left of the cut at ${name} (C7)`)
    }
    return this.findings
  }

  async #until(isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      const nextMs = this.timeline.nextMs()
      assert(nextMs !== undefined && nextMs < deadlineMs, 'the cut does not end')
      // What happens at one instant happens in its order; then the shells' microtasks run.
      while (this.timeline.nextMs() === nextMs) this.timeline.step()
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  async #cut(): Promise<string> {
    const plan = makePlan({
      system: 'scale',
      cut: 'cut-1' as CutId,
      epoch: 1,
      generation: 1,
      fencing: 1,
      stores: [],
      processes: this.#processes.map(({ name, incarnation }) => ({ name, incarnation })),
      deadlines: { leaseMs: 60_000, prepareMs: 60_000, quiesceMs: 60_000, markMs: 60_000, resumeMs: 60_000 },
    })
    const result = await runCut({
      plan,
      planDigest: digestOfPlan(plan),
      attempt: 1,
      lease: {
        recordCut: (_, lines) => {
          this.counts.commits += 1
          for (const line of lines) this.counts.recordBytes += line.length
          return new Promise((resolve) => void this.#machine.after(commitMs, resolve))
        },
      },
      clock: this.#machine,
      processes: {
        connected: () => [],
        send: ({ name }, order) => this.#order(defined(this.#byName.get(name), name), order),
        offerRestore: () => false,
        subscribe: (listener) => {
          this.#listeners.add(listener)
          return () => this.#listeners.delete(listener)
        },
      },
      openStores: () => Promise.resolve(noStores),
      seal: ({ certificate }) => this.#seal(certificate, plan),
      signal: new AbortController().signal,
      onEvent: () => {},
    })
    return result.kind === 'sealed' ? `sealed: ${result.verdict}` : `aborted: ${result.failure.message}`
  }

  #order(to: ScaleProcess, said: Order): boolean {
    this.counts.orders += 1
    const order = this.#wire.order(said)
    to.machine.reach(1 + this.random.below(4), () => to.shell.feed({ type: 'ordered', order }))
    return true
  }

  #seal(certificate: Certificate, plan: Plan): Promise<string> {
    this.counts.certificateBytes = JSON.stringify(certificate).length
    this.#wire.certificate(certificate)
    return Promise.resolve(plan.cut)
  }

  /** Every message that was sent inside the cut is received inside it or recorded, once; every other is neither (C2). */
  #judgeMessages(): void {
    const copies = new Map<string, number>()
    for (const { recorded } of this.#processes) {
      this.counts.recorded += recorded.length
      for (const id of recorded) copies.set(id, (copies.get(id) ?? 0) + 1)
    }
    for (const { id, sentInside, receivedInside } of this.#messages) {
      const places = Number(receivedInside) + (copies.get(id) ?? 0)
      if (places !== Number(sentInside)) this.findings.push(`${id} is in ${places} places of the cut (C2)`)
    }
  }
}

// What of a StoreCut is for the repository alone: `seal` has one of its own.
const noStores = { order: () => false, close: () => Promise.resolve() } as unknown as StoreCut
