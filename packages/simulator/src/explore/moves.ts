/**
 * Every step that can happen next in an explored world: one successor per choice of whoever moves. Time passes only
 * where nothing else can happen, or where a fault makes one node's timers go off early (`expiries`).
 */
import {
  type CoordinatorInput,
  channelId,
  nextCoordinatorDeadlineMs,
  nextProcessDeadlineMs,
  nextStoreDeadlineMs,
  type Origin,
  type Stamp,
  type StoreAnswer,
} from '@stillpoint/core'
import { defined, type MessageId, type SessionId } from '@stillpoint/core/kernel'
import {
  captured,
  type Draft,
  eventAt,
  outsiderItem,
  ownItem,
  patchFate,
  patchProcess,
  patchStore,
  processOf,
  requestSend,
  storeOf,
  tellCoordinator,
  tellProcess,
  tellStore,
  writeSnapshot,
} from './carry-out.ts'
import { crashMoves } from './crash-moves.ts'
import {
  type Action,
  type Faults,
  type Frame,
  nameOf,
  type Packet,
  type Running,
  strangerItem,
  type World,
} from './model.ts'

export interface Move {
  readonly label: string
  readonly world: World
}

export function step(world: World, label: string, change: (draft: Draft) => void): Move {
  const draft: Draft = { ...world }
  change(draft)
  return { label, world: draft }
}

export function spend(draft: Draft, fault: keyof Faults): void {
  draft.faults = { ...draft.faults, [fault]: draft.faults[fault] - 1 }
  draft.trouble += 1
}

export function movesOf(world: World): readonly Move[] {
  const moves: Move[] = []
  for (const name of Object.keys(world.downlinks)) moves.push(...downlinkMoves(world, name))
  for (const name of Object.keys(world.uplinks)) moves.push(...uplinkMoves(world, name))
  for (const channel of Object.keys(world.channels)) moves.push(...channelMoves(world, channel))
  for (const name of Object.keys(world.processes)) moves.push(...applicationMoves(world, name))
  for (const name of Object.keys(world.stores)) moves.push(...storeMoves(world, name))
  for (const name of Object.keys(world.strangers)) moves.push(...strangerMoves(world, name))
  moves.push(...outsiderMoves(world), ...sealMoves(world), ...crashMoves(world))
  if (moves.length === 0) return timerMoves(world, false)
  return world.faults.expiries > 0 ? [...moves, ...timerMoves(world, true)] : moves
}

export function downlinkMoves(world: World, name: string): readonly Move[] {
  const [head, ...rest] = world.downlinks[name] ?? []
  if (head === undefined) return []
  const take = (draft: Draft, left: typeof rest): void => {
    draft.downlinks = { ...draft.downlinks, [name]: left }
    const isProcess = world.processes[name] !== undefined
    const { nowMs } = isProcess ? processOf(world, name) : storeOf(world, name)
    const input = head === 'lost' ? { type: 'disconnected' as const } : { type: 'ordered' as const, order: head.order }
    if (isProcess) tellProcess(draft, name, { ...input, nowMs })
    else tellStore(draft, name, { ...input, nowMs })
  }
  const what = head === 'lost' ? 'sees its connection lost' : `← ${head.order.type}`
  const moves = [step(world, `${name} ${what}`, (draft) => take(draft, rest))]
  if (world.faults.repeats > 0 && head !== 'lost') {
    const again = (draft: Draft): void => {
      spend(draft, 'repeats')
      take(draft, [head, ...rest])
    }
    moves.push(step(world, `${name} ${what}, which comes again`, again))
  }
  return moves
}

export function uplinkMoves(world: World, name: string): readonly Move[] {
  const [head, ...rest] = world.uplinks[name] ?? []
  if (head === undefined || world.coordinator === null) return []
  const nowMs = world.coordinatorNowMs
  const from = nameOf(name.split(' ')[0] ?? name)
  const input: CoordinatorInput =
    head === 'lost'
      ? { type: 'participantLost', name: from, reason: 'its connection was lost', nowMs }
      : { type: 'factReceived', from, fact: head.fact, nowMs }
  const what = `coordinator ← ${name} ${head === 'lost' ? 'is lost' : head.fact.type}`
  const take = (draft: Draft): void => {
    draft.uplinks = { ...draft.uplinks, [name]: rest }
    tellCoordinator(draft, input)
  }
  return [step(world, what, take)]
}

export function channelMoves(world: World, channel: string): readonly Move[] {
  const frames = world.channels[channel] ?? []
  const to = channel.split('→')[1] ?? ''
  const moves: Move[] = []
  for (const [index, frame] of frames.entries()) {
    const isFifo = frame.type === 'marker' || isFifoFrame(world, to)
    if (index > 0 && isFifo) continue
    const rest = frames.toSpliced(index, 1)
    const label = frame.type === 'marker' ? `marker on ${channel}` : `m${frame.packet.script.id} on ${channel}`
    moves.push(step(world, label, (draft) => arrive(draft, to, frame, { channel, rest })))
    if (frame.type !== 'packet' || world.faults.losses === 0) continue
    const { id } = frame.packet.script
    const lose = (draft: Draft): void => {
      spend(draft, 'losses')
      draft.channels = { ...draft.channels, [channel]: rest }
      patchFate(draft, id, { isLost: true })
    }
    moves.push(step(world, `m${id} is lost on ${channel}`, lose))
  }
  return moves
}

function isFifoFrame(world: World, to: string): boolean {
  for (const { traits } of processOf(world, to).state.outbound.values()) return traits.fifo
  return false
}

function arrive(
  draft: Draft,
  to: string,
  frame: Frame,
  place: { readonly channel: string; readonly rest: readonly Frame[] },
): void {
  draft.channels = { ...draft.channels, [place.channel]: place.rest }
  const node = processOf(draft, to)
  if (!node.isAlive) {
    if (frame.type !== 'packet') return
    return patchFate(draft, frame.packet.script.id, { isLost: true })
  }
  const [outbound] = node.state.outbound.values()
  const { traits } = defined(outbound, 'the traits of the channels')
  const { nowMs } = node
  if (frame.type === 'marker')
    return tellProcess(draft, to, { type: 'markerArrived', stamp: frame.stamp, traits, nowMs })
  const { script, stamp, kind, forItem } = frame.packet
  patchProcess(draft, to, { inbox: [...node.inbox, frame.packet] })
  const base = { stamp: defined(stamp, 'a stamp'), traits }
  const origin: Origin =
    kind === 'reply'
      ? { kind, ...base, awaitedBy: forItem }
      : { kind: 'message', ...base, expectsReply: kind === 'request', transactional: false }
  tellProcess(draft, to, { type: 'arrived', item: script.id, origin, nowMs })
}

function applicationMoves(world: World, name: string): readonly Move[] {
  const node = processOf(world, name)
  if (!node.isAlive) return []
  const moves: Move[] = []
  const item = ownItem + node.own.length
  const isAsked = node.state.waiting.some((waiting) => waiting.item === item) || node.state.running.has(item)
  if (node.own.length > 0 && !isAsked) {
    const origin: Origin = { kind: 'process', transactional: false }
    const begin = (draft: Draft): void => tellProcess(draft, name, { type: 'arrived', item, origin, nowMs: node.nowMs })
    moves.push(step(world, `${name} begins work`, begin))
  }
  for (const running of node.running) {
    if (running.awaiting || isBlocked(world, running)) continue
    moves.push(step(world, `${name} ${describe(running)}`, (draft) => act(draft, name, running)))
  }
  return moves
}

function describe({ item, actions }: Running): string {
  const [action] = actions
  return action === undefined ? `ends ${item}` : `${action.do} in ${item}`
}

/** A write to a store that is held waits for it. */
function isBlocked(world: World, { actions: [action] }: Running): boolean {
  return action?.do === 'write' && storeOf(world, action.store).isHeld
}

/** One action of a handler; it ends with its last one. */
function act(draft: Draft, name: string, running: Running): void {
  const [action, ...actions] = running.actions
  const { item } = running
  const awaiting = action?.do === 'request'
  setRunning(draft, name, { item, actions, awaiting })
  if (action !== undefined) perform(draft, name, action, item)
  if (actions.length > 0 || awaiting) return
  patchProcess(draft, name, { running: processOf(draft, name).running.filter((one) => one.item !== item) })
  tellProcess(draft, name, { type: 'finished', item, nowMs: processOf(draft, name).nowMs })
}

function setRunning(draft: Draft, name: string, running: Running): void {
  const { running: all } = processOf(draft, name)
  patchProcess(draft, name, { running: all.map((one) => (one.item === running.item ? running : one)) })
}

function perform(draft: Draft, name: string, action: Action, item: number): void {
  const packet = (rest: Pick<Packet, 'script' | 'kind' | 'forItem'>): Packet => ({ ...rest, knows: 0, stamp: null })
  switch (action.do) {
    case 'send':
      return requestSend(draft, name, packet({ script: action.message, kind: 'message', forItem: null }), item)
    case 'request': {
      const { message, reply } = action
      const answer: Action = { do: 'reply', id: reply, to: name, amount: 1 }
      const script = { ...message, does: [...message.does, answer] }
      return requestSend(draft, name, packet({ script, kind: 'request', forItem: item }), item)
    }
    case 'reply': {
      const { id, to, amount } = action
      const script = { id, to, amount, does: [] }
      const caller = [...processOf(draft, to).running].find((one) => one.awaiting)
      return requestSend(draft, name, packet({ script, kind: 'reply', forItem: caller?.item ?? null }), item)
    }
    case 'write': {
      const { balance } = processOf(draft, name)
      patchProcess(draft, name, { balance: balance - action.amount, knows: eventAt(draft, name, 0) })
      const knows = write(draft, action.store, processOf(draft, name).knows, action.amount)
      patchProcess(draft, name, { knows: eventAt(draft, name, knows) })
      return
    }
  }
}

/** A write and its acknowledgement: each learns what the other knew. Answers what the store knows. */
function write(draft: Draft, store: string, learnt: number, amount: number): number {
  const knows = eventAt(draft, store, learnt)
  patchStore(draft, store, { knows, balance: storeOf(draft, store).balance + amount })
  return knows
}

export function storeMoves(world: World, name: string): readonly Move[] {
  const { call, nowMs, isHeld, state } = storeOf(world, name)
  if (call === null || state.work === null) return []
  const { ref, role } = state.work
  const answer = (draft: Draft): void => {
    patchStore(draft, name, { call: null })
    const told = carryOutCall(draft, name, { call, leaseMs: role.leaseMs })
    tellStore(draft, name, { type: 'answered', ref, answer: told, nowMs })
  }
  return [step(world, `${name} does ${call}${isHeld ? ' while held' : ''}`, answer)]
}

function carryOutCall(
  draft: Draft,
  name: string,
  { call, leaseMs }: { readonly call: StoreAnswer['call']; readonly leaseMs: number },
): StoreAnswer {
  const node = storeOf(draft, name)
  switch (call) {
    case 'prepare':
      return { call, estimateBytes: 1, version: 'model', notes: [] }
    case 'quiesce':
      patchStore(draft, name, { isHeld: true, holdBroke: false })
      return { call, endsAtMs: node.nowMs + leaseMs }
    case 'mark':
      patchStore(draft, name, { marked: { balance: node.balance, knows: node.knows }, hasMark: true })
      return { call, position: {}, caveats: [] }
    case 'resume':
      patchStore(draft, name, { isHeld: false })
      return { call, unbroken: node.isHeld && !node.holdBroke }
    case 'capture':
      return { call, evidence: captured(name) }
    case 'release':
      patchStore(draft, name, { hasMark: false })
      return { call }
  }
}

function outsiderMoves(world: World): readonly Move[] {
  return world.outsiders.flatMap((outsider, index) => {
    const [visit, ...visits] = outsider.visits
    if (visit === undefined || outsider.isWaiting) return []
    const store = world.stores[visit]
    if (store !== undefined) {
      if (store.isHeld) return []
      const visitStore = (draft: Draft): void => {
        const knows = write(draft, visit, outsider.knows, 0)
        draft.outsiders = draft.outsiders.with(index, { visits, knows, isWaiting: false })
      }
      return [step(world, `outsider ${index} writes ${visit}`, visitStore)]
    }
    const stranger = world.strangers[visit]
    if (stranger !== undefined) {
      const visitStranger = (draft: Draft): void => {
        const knows = stranger.knows | outsider.knows
        draft.strangers = { ...draft.strangers, [visit]: { ...stranger, knows } }
        draft.outsiders = draft.outsiders.with(index, { visits, knows, isWaiting: false })
      }
      return [step(world, `outsider ${index} asks ${visit}`, visitStranger)]
    }
    if (!processOf(world, visit).isAlive) return []
    const call = (draft: Draft): void => {
      draft.outsiders = draft.outsiders.with(index, { ...outsider, visits, isWaiting: true })
      const origin: Origin = { kind: 'outsider', holdable: true, transactional: false }
      const { nowMs } = processOf(draft, visit)
      tellProcess(draft, visit, { type: 'arrived', item: outsiderItem + index, origin, nowMs })
    }
    return [step(world, `outsider ${index} asks ${visit}`, call)]
  })
}

/** A process outside the plan sends what it has to send, in its own epoch, whatever happens here. */
function strangerMoves(world: World, name: string): readonly Move[] {
  const stranger = world.strangers[name]
  const [script, ...sends] = stranger?.sends ?? []
  if (stranger === undefined || script === undefined) return []
  const send = (draft: Draft): void => {
    const channel = channelId(nameOf(name), nameOf(script.to))
    const { epoch, knows } = stranger
    const place = { generation: 1, epoch, channel, session: `${channel}/1` as SessionId }
    const stamp: Stamp = { ...place, seq: script.id - strangerItem + 1, message: `m${script.id}` as MessageId }
    const packet: Packet = { script, kind: 'message', forItem: null, knows, stamp }
    draft.strangers = { ...draft.strangers, [name]: { ...stranger, sends } }
    draft.channels = { ...draft.channels, [channel]: [...(draft.channels[channel] ?? []), { type: 'packet', packet }] }
  }
  return [step(world, `${name} sends m${script.id}`, send)]
}

export function sealMoves(world: World): readonly Move[] {
  if (world.sealing === null || world.coordinator === null) return []
  const nowMs = world.coordinatorNowMs
  const moves = [
    step(world, 'the snapshot is written', (draft) => {
      writeSnapshot(draft)
      draft.sealing = null
      tellCoordinator(draft, { type: 'sealed', nowMs })
    }),
  ]
  if (world.faults.sealFailures > 0) {
    const fail = (draft: Draft): void => {
      spend(draft, 'sealFailures')
      draft.sealing = null
      const failure = { code: 'repository_failed', message: 'nothing was written', retry: 'later' } as const
      tellCoordinator(draft, { type: 'sealFailed', failure, nowMs })
    }
    moves.push(step(world, 'the snapshot cannot be written', fail))
  }
  return moves
}

/** @param isEarly a fault: this node's clock is ahead of what still goes on elsewhere */
function timerMoves(world: World, isEarly: boolean): readonly Move[] {
  const moves: Move[] = []
  const add = (label: string, change: (draft: Draft) => void): void => {
    moves.push(
      step(world, label, (draft) => {
        if (isEarly) spend(draft, 'expiries')
        change(draft)
      }),
    )
  }
  const { coordinator } = world
  const at = coordinator === null ? null : nextCoordinatorDeadlineMs(coordinator)
  if (at !== null && coordinator?.phase !== 'ended') {
    const nowMs = Math.max(at, world.coordinatorNowMs)
    add(`the coordinator's deadline of ${coordinator?.phase}`, (draft) => {
      draft.coordinatorNowMs = nowMs
      tellCoordinator(draft, { type: 'ticked', nowMs })
    })
  }
  for (const [name, node] of Object.entries(world.processes)) {
    const deadline = node.isAlive ? nextProcessDeadlineMs(node.state) : null
    if (deadline === null) continue
    const nowMs = Math.max(deadline, node.nowMs)
    add(`${name}'s timer`, (draft) => {
      patchProcess(draft, name, { nowMs })
      tellProcess(draft, name, { type: 'ticked', nowMs })
    })
  }
  for (const [name, node] of Object.entries(world.stores)) {
    const deadline = nextStoreDeadlineMs(node.state)
    if (deadline !== null) {
      const nowMs = Math.max(deadline, node.nowMs)
      add(`${name}'s timer`, (draft) => {
        patchStore(draft, name, { nowMs })
        tellStore(draft, name, { type: 'ticked', nowMs })
      })
    }
    if (node.isHeld)
      add(`${name} ends its hold by itself`, (draft) => patchStore(draft, name, { isHeld: false, holdBroke: true }))
  }
  return moves
}
