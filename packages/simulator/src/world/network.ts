/**
 * The channels between processes. `fifo`: in order, with markers. `loose`: reliable, overtaking, at least once.
 * `volatile`: lost, doubled, overtaking. A session is one life of a channel; what is on its way when an end of it dies
 * is lost.
 */
import type { ChannelTraits, Stamp } from '@stillpoint/core'
import { channelEnds, channelId, participantName, type SessionId } from '@stillpoint/core/kernel'
import type { Event } from '../checkers/truth.ts'
import type { Packet, ProcessNode } from './process-node.ts'
import type { World } from './world.ts'

interface Channel {
  readonly from: string
  readonly to: string
  session: number
  /** When what was sent last arrives: on a FIFO channel nothing overtakes it. */
  lastAtMs: number
  /** Messages that the application has asked to send, and that the gate has not let out yet. */
  readonly asked: Set<string>
  /** Messages that left in this session. */
  readonly sent: Set<string>
}

export class Network {
  readonly #world: World
  readonly #channels = new Map<string, Channel>()
  readonly traits: ChannelTraits

  constructor(world: World) {
    this.#world = world
    const { channels, processes, strangers } = world.scenario
    this.traits = { fifo: channels === 'fifo', volatile: channels === 'volatile' }
    for (const from of processes) {
      for (const to of processes) if (from !== to) this.#add(from, to)
    }
    for (const { name, isKnown } of strangers) {
      for (const process of processes) {
        this.#add(name, process)
        if (isKnown) this.#add(process, name)
      }
    }
  }

  #add(from: string, to: string): void {
    this.#channels.set(`${from}→${to}`, { from, to, session: 0, lastAtMs: 0, asked: new Set(), sent: new Set() })
  }

  /** Both ends live: a new session. */
  open(channel: Channel): void {
    const { from, to } = channel
    const sender = this.#world.processNode(from)
    const event = sender.event()
    for (const message of channel.sent) this.#world.ledger.lost(message, event)
    channel.sent.clear()
    channel.session += 1
    const id = channelId(participantName(from), participantName(to))
    sender.shell.openSession(id, `${id}/${channel.session}` as SessionId, this.traits)
  }

  openAll(of?: string): void {
    for (const channel of this.#channels.values()) {
      if (of !== undefined && channel.from !== of && channel.to !== of) continue
      if (this.#world.processNode(channel.from).isJoined) this.open(channel)
    }
  }

  took(from: string, to: string, id: string): void {
    this.#channels.get(`${from}→${to}`)?.asked.add(id)
  }

  senderGone(name: string, event: Event): void {
    for (const channel of this.#channels.values()) {
      if (channel.from !== name) continue
      for (const id of [...channel.asked, ...channel.sent]) this.#world.ledger.lost(id, event)
      channel.asked.clear()
      channel.sent.clear()
      channel.session += 1
    }
  }

  send(from: string, to: string, { packet, stamp }: { readonly packet: Packet; readonly stamp: Stamp }): void {
    const { scenario, random, ledger, isFaulty } = this.#world
    this.#world.trace(from, () => `sends ${packet.id} to ${to}, epoch ${stamp.epoch}`)
    const channel = this.#channels.get(`${from}→${to}`)
    if (channel === undefined) return
    ledger.stamped(packet.id, stamp)
    channel.asked.delete(packet.id)
    channel.sent.add(packet.id)
    const isCut = this.#world.links.isCut(from, 'out') || this.#world.links.isCut(to, 'in')
    if (this.traits.volatile && (isCut || (isFaulty && random.chance(scenario.lossPerMille)))) {
      ledger.lost(packet.id, 'network')
      this.#world.trace(from, () => `${packet.id} is lost on its way to ${to}`)
      // A call that fails: its caller may learn that nobody knows whether it arrived.
      if (random.chance(500)) {
        const { channel: id, session, seq } = stamp
        this.#world.processNode(from).shell.feed({ type: 'sendUncertain', channel: id, session, seq })
      }
      return
    }
    const arrive = (node: ProcessNode): void => {
      channel.sent.delete(packet.id) // From here on it is in its receiver's memory.
      node.inbox.add(packet.id)
      node.arrive(packet, stamp, this.traits)
    }
    const isCurrent = stampSession(stamp) === channel.session
    if (!isCurrent) return
    this.#carry(channel, arrive, packet.id)
    if (isFaulty && !this.traits.fifo && random.chance(scenario.doublePerMille)) {
      this.#carry(channel, arrive, packet.id)
    }
  }

  sendMarker(from: string, stamp: Omit<Stamp, 'seq' | 'message'>): void {
    const channel = this.#channels.get(`${from}→${channelEnds(stamp.channel).to}`)
    if (channel === undefined) return
    this.#carry(channel, (node) => {
      const { traits } = this
      node.shell.feed({ type: 'markerArrived', stamp, traits })
    })
  }

  #carry(channel: Channel, deliver: (node: ProcessNode) => void, id?: string): void {
    const { timeline, random, scenario, links } = this.#world
    const { from, to, session } = channel
    let delayMs = random.below(scenario.delayMsMax * (random.chance(100) ? 5 : 1)) + 0.1
    const blockedMs = Math.max(links.cutForMs(from, 'out'), links.cutForMs(to, 'in'))
    if (blockedMs > 0) delayMs += blockedMs
    if (this.traits.fifo) {
      channel.lastAtMs = Math.max(channel.lastAtMs, timeline.nowMs + delayMs)
      delayMs = channel.lastAtMs - timeline.nowMs
    }
    const node = this.#world.processNode(to)
    const generation = this.#world.durable.generation
    node.machine.reach(delayMs, () => {
      // The session's connection is gone; a message of an older generation may still be somewhere.
      if (!node.isJoined || (channel.session !== session && this.#world.durable.generation === generation)) return
      this.#world.trace(to, () => (id === undefined ? 'gets a marker' : `gets ${id}`), from)
      deliver(node)
    })
  }
}

function stampSession({ session }: Stamp): number {
  return Number(session.slice(session.lastIndexOf('/') + 1))
}
