/**
 * One process of a world of many: the SDK's own shell around the production machine, and an application that sends a
 * message now and then and forwards some.
 *
 * Judges closure under happens-before in constant memory, as the exploration does it: whoever knows of anything that
 * somebody did after that one's mark must have marked. For one cut that is what vector clocks say.
 */
import type { CutRef, Fact } from '@stillpoint/core'
import { type ChannelId, defined, type Incarnation, type ParticipantName } from '@stillpoint/core/kernel'
import { type ProtocolShell, protocolShell } from '../../../sdk/src/gate/protocol-shell.ts'
import type { Work } from '../../../sdk/src/gate/work-context.ts'
import { Machine } from '../world/machine.ts'
import { treeOfNobody } from '../world/wire.ts'
import type { ScaleWorld } from './scale-world.ts'

export interface Message {
  readonly id: string
  readonly to: ScaleProcess
  /** Its sender knew something of the time after somebody's mark. */
  readonly isAfter: boolean
  /** Where it is, by the world's own account. */
  readonly sentInside: boolean
  receivedInside: boolean
}

const delayMs = (world: ScaleWorld): number => 1 + world.random.below(4)

export class ScaleProcess {
  readonly name: ParticipantName
  readonly machine: Machine
  readonly shell: ProtocolShell
  readonly outbound: { readonly channel: ChannelId; readonly to: ScaleProcess; lastAtMs: number }[] = []
  readonly incarnation: Incarnation
  readonly #world: ScaleWorld
  hasMarked = false
  #knowsAfter = false
  #recorded: readonly string[] = []

  constructor(world: ScaleWorld, name: ParticipantName) {
    this.#world = world
    this.name = name
    this.machine = new Machine(name, world.timeline, { rate: 1, offsetMs: world.random.below(1_000_000) })
    this.incarnation = `${name}-1` as Incarnation
    this.shell = protocolShell({
      name,
      incarnation: this.incarnation,
      clock: this.machine,
      duties: {
        report: (fact: Fact) => world.report(this, fact),
        sendMarker: (stamp) => {
          world.counts.markers += 1
          const link = defined(
            this.outbound.find(({ channel }) => channel === stamp.channel),
            stamp.channel,
          )
          this.#carry(link, () =>
            link.to.shell.feed({ type: 'markerArrived', stamp, traits: { fifo: true, volatile: false } }),
          )
        },
        markState: (ref: CutRef) => this.#mark(ref),
        capture: (ref: CutRef) => this.#capture(ref),
        dropMark: () => {},
      },
    })
  }

  get recorded(): readonly string[] {
    return this.#recorded
  }

  #mark(ref: CutRef): void {
    if (this.#knowsAfter)
      this.#world.findings.push(`${this.name} marks and knows what somebody did after its mark (C1)`)
    this.hasMarked = true
    this.#knowsAfter = true
    this.machine.after(delayMs(this.#world), () => this.shell.feed({ type: 'stateMarked', ref }))
  }

  #capture(ref: CutRef): void {
    this.machine.after(delayMs(this.#world), () => {
      this.#recorded = this.shell.recorded(ref).map(({ stamp }) => stamp.message)
      const evidence = { tree: treeOfNobody, bytes: 1, files: 1, torn: [], notes: [], channels: {} }
      this.shell.feed({ type: 'captured', ref, evidence })
    })
  }

  /** Begins something of its own, now and then, for ever. */
  live(): void {
    this.machine.after(this.#world.random.between(10, 90), () => {
      this.shell.arrive({
        origin: { kind: 'process', transactional: false },
        deliver: (work) => this.#work(work, true),
        refuse: () => {},
      })
      this.live()
    })
  }

  #work(work: Work, sends: boolean): void {
    const { random } = this.#world
    const used = this.#world.usedBy(this)
    if (sends && used.length > 0) this.#send(work, random.pick(used))
    this.shell.end(work)
  }

  #send(work: Work, link: ScaleProcess['outbound'][number]): void {
    const message = this.#world.sent({ to: link.to, isAfter: this.#knowsAfter, sentInside: !this.hasMarked })
    this.shell.send(
      { channel: link.channel, message: message.id as never, work },
      {
        granted: (stamp) =>
          this.#carry(link, () => {
            link.to.shell.arrive({
              origin: {
                kind: 'message',
                stamp,
                traits: { fifo: true, volatile: false },
                expectsReply: false,
                transactional: false,
              },
              deliver: (theirs) => link.to.#receive(message, theirs),
              refuse: (reason) => this.#world.findings.push(`${message.id} is refused: ${reason}`),
              body: () => ({ kind: 'message', meta: {}, encoding: 'utf8', payload: '' }),
            })
          }),
        refused: () => this.#world.findings.push(`${message.id} is not sent`),
      },
    )
  }

  #receive(message: Message, work: Work): void {
    message.receivedInside = !this.hasMarked
    if (message.isAfter) this.#knowsAfter = true
    this.#work(work, this.#world.random.chance(400))
  }

  /** FIFO: nothing overtakes. */
  #carry(link: ScaleProcess['outbound'][number], arrive: () => void): void {
    const { timeline } = this.#world
    link.lastAtMs = Math.max(link.lastAtMs, timeline.nowMs + delayMs(this.#world))
    timeline.at(link.lastAtMs, arrive)
  }
}
