/**
 * What the effects of the machines do to an explored world: the shells of exploration. As in the production shells,
 * effects are carried out in the order of the decisions, and inputs that they cause are decided first come, first served.
 */
import {
  type CaptureEvidence,
  type CoordinatorInput,
  type Decision,
  decideCoordinator,
  decideProcess,
  decideStore,
  type ProcessEffect,
  type ProcessInput,
  type StoreInput,
} from '@stillpoint/core'
import { assert, channelEnds, defined, type TreeId } from '@stillpoint/core/kernel'
import { sealedFindings } from './judge.ts'
import { bitOf, type Fate, type Packet, type ProcessNode, type StoreNode, type World } from './model.ts'

export type Draft = { -readonly [K in keyof World]: World[K] }

export function patchProcess(draft: Draft, name: string, change: Partial<ProcessNode>): void {
  const node = defined(draft.processes[name], name)
  draft.processes = { ...draft.processes, [name]: { ...node, ...change } }
}

export function patchStore(draft: Draft, name: string, change: Partial<StoreNode>): void {
  const node = defined(draft.stores[name], name)
  draft.stores = { ...draft.stores, [name]: { ...node, ...change } }
}

export function processOf(draft: World, name: string): ProcessNode {
  return defined(draft.processes[name], name)
}

export function storeOf(draft: World, name: string): StoreNode {
  return defined(draft.stores[name], name)
}

/** An event of this participant: after its mark, whoever learns of it learns of the time after the cut. */
export function eventAt(draft: World, name: string, learnt: number): number {
  const node = draft.processes[name] ?? draft.stores[name]
  const own = node?.marked != null ? bitOf(draft, name) : 0
  return (node?.knows ?? 0) | learnt | own
}

export function patchFate(draft: Draft, id: number, change: Partial<Fate>): void {
  draft.fates = draft.fates.map((fate) => (fate.id === id ? { ...fate, ...change } : fate))
}

export function tellProcess(draft: Draft, name: string, input: ProcessInput): void {
  const effects: ProcessEffect[] = []
  const tell = (one: ProcessInput): void => {
    const step = decideProcess(processOf(draft, name).state, one)
    patchProcess(draft, name, { state: step.state })
    effects.push(...step.effects)
  }
  tell(input)
  for (let effect = effects.shift(); effect !== undefined; effect = effects.shift()) {
    processEffect(draft, name, effect, tell)
  }
}

function processEffect(draft: Draft, name: string, effect: ProcessEffect, tell: (input: ProcessInput) => void): void {
  const node = processOf(draft, name)
  switch (effect.type) {
    case 'report':
      return uplink(draft, name, effect)
    case 'deliver':
      return deliver(draft, name, effect.item)
    case 'refuse':
      return patchProcess(draft, name, { inbox: node.inbox.filter(({ script }) => script.id !== effect.item) })
    case 'send':
      return send(draft, name, effect)
    case 'sendMarker': {
      const { channel } = effect.stamp
      const frames = defined(draft.channels[channel], channel)
      draft.channels = { ...draft.channels, [channel]: [...frames, { type: 'marker', stamp: effect.stamp }] }
      return
    }
    case 'record': {
      const packet = node.inbox.find(({ script }) => script.id === effect.item)
      if (packet !== undefined && packet.knows !== 0) draft.isTainted = true
      const fate = draft.fates.find(({ id }) => id === effect.item)
      if (fate !== undefined) patchFate(draft, fate.id, { recorded: fate.recorded + 1 })
      // What comes from outside the plan has no fate in this cut.
      else
        assert(channelEnds(effect.channel).from in draft.strangers, `message ${effect.item} is recorded and not sent`)
      return
    }
    case 'markState':
      patchProcess(draft, name, { marked: { balance: node.balance, knows: node.knows } })
      return tell({ type: 'stateMarked', ref: effect.ref, nowMs: node.nowMs })
    case 'capture':
      return tell({ type: 'captured', ref: effect.ref, evidence: captured(name) })
    case 'sendRefused':
    case 'dropMark':
      return
  }
}

export function captured(name: string): CaptureEvidence {
  return { tree: `tree-${name}` as TreeId, bytes: 1, files: 1, torn: [], notes: [], channels: {} }
}

/** What is said while the connection is known to be gone reaches nobody. */
function uplink(draft: Draft, name: string, { fact }: { readonly fact: Parameters<typeof factOf>[0] }): void {
  if (draft.coordinator === null || draft.downlinks[name]?.includes('lost') === true) return
  draft.uplinks = { ...draft.uplinks, [name]: [...(draft.uplinks[name] ?? []), { fact: factOf(fact) }] }
}

function factOf(fact: Extract<ProcessEffect, { type: 'report' }>['fact']): typeof fact {
  return fact
}

/** A message is received when the application has it: its amount is in the state from here on. */
function deliver(draft: Draft, name: string, item: number): void {
  const node = processOf(draft, name)
  const packet = node.inbox.find(({ script }) => script.id === item)
  if (packet === undefined) return beginOwn(draft, name, item)
  const { script, kind } = packet
  patchFate(draft, item, { received: node.marked === null ? 'before' : 'after' })
  const running =
    kind === 'reply'
      ? node.running.map((one) => (one.item === packet.forItem ? { ...one, awaiting: false } : one))
      : [...node.running, { item, actions: script.does, awaiting: false }]
  patchProcess(draft, name, {
    inbox: node.inbox.filter((one) => one !== packet),
    balance: node.balance + script.amount,
    knows: eventAt(draft, name, packet.knows),
    running,
  })
}

export const ownItem = 100
export const outsiderItem = 200

function beginOwn(draft: Draft, name: string, item: number): void {
  const node = processOf(draft, name)
  const outsider = draft.outsiders[item - outsiderItem]
  if (outsider !== undefined) {
    const knows = eventAt(draft, name, outsider.knows)
    patchProcess(draft, name, { knows, running: [...node.running, { item, actions: [], awaiting: false }] })
    draft.outsiders = draft.outsiders.map((one) => (one === outsider ? { ...one, knows, isWaiting: false } : one))
    return
  }
  const [actions = [], ...own] = node.own
  patchProcess(draft, name, { own, running: [...node.running, { item, actions, awaiting: false }] })
}

function send(draft: Draft, name: string, { send: id, stamp }: Extract<ProcessEffect, { type: 'send' }>): void {
  const node = processOf(draft, name)
  const packet = defined(
    node.outbox.find(({ script }) => script.id === id),
    `sending ${id}`,
  )
  patchProcess(draft, name, { outbox: node.outbox.filter((one) => one !== packet) })
  const { channel } = stamp
  const frames = defined(draft.channels[channel], channel)
  draft.channels = { ...draft.channels, [channel]: [...frames, { type: 'packet', packet: { ...packet, stamp } }] }
}

/** The application says `send`: from here on the amount has left its state, whenever the gate lets it go. */
export function requestSend(draft: Draft, name: string, packet: Packet, byItem: number): void {
  const node = processOf(draft, name)
  const { id, amount, to } = packet.script
  const fate: Fate = {
    id,
    amount,
    sentBefore: node.marked === null,
    received: 'no',
    recorded: 0,
    isLost: false,
  }
  draft.fates = [...draft.fates, fate].sort((a, b) => a.id - b.id)
  const knows = eventAt(draft, name, 0)
  patchProcess(draft, name, { balance: node.balance - amount, knows, outbox: [...node.outbox, { ...packet, knows }] })
  const channel = [...node.state.outbound.keys()].find((one) => channelEnds(one).to === to)
  const request = { send: id, channel: defined(channel, `a channel to ${to}`), message: `m${id}` as never, byItem }
  tellProcess(draft, name, { type: 'sendRequested', request, nowMs: node.nowMs })
}

export function tellStore(draft: Draft, name: string, input: StoreInput): void {
  const step = decideStore(storeOf(draft, name).state, input)
  patchStore(draft, name, { state: step.state })
  for (const effect of step.effects) {
    if (effect.type === 'report') uplink(draft, name, effect)
    if (effect.type !== 'call') continue
    assert(storeOf(draft, name).call === null, `${name} is called while a call runs`)
    patchStore(draft, name, { call: effect.call.call })
  }
}

/** @param isCrashing the records of this step are durable, and nothing of its effects has left */
export function tellCoordinator(draft: Draft, input: CoordinatorInput, isCrashing = false): void {
  const { coordinator } = draft
  if (coordinator === null) return
  applyDecision(draft, decideCoordinator(coordinator, input), isCrashing)
}

export function applyDecision(draft: Draft, { state, records, effects }: Decision, isCrashing = false): void {
  draft.coordinator = state
  if (records.length > 0) draft.records = [...draft.records, ...records]
  if (isCrashing) return
  for (const effect of effects) {
    if (effect.type === 'seal') draft.sealing = effect.certificate
    if (effect.type !== 'order') continue
    if (draft.processes[effect.to]?.isAlive === false) continue
    draft.downlinks = {
      ...draft.downlinks,
      [effect.to]: [...(draft.downlinks[effect.to] ?? []), { order: effect.order }],
    }
  }
}

/** The snapshot is in the repository: from here on it exists, whatever becomes of its coordinator. */
export function writeSnapshot(draft: Draft): void {
  const certificate = defined(draft.sealing, 'a certificate')
  draft.findings = [...draft.findings, ...sealedFindings(draft, certificate)]
  draft.snapshots += 1
}
