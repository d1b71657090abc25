/**
 * Partial-order reduction: moves that commute with everything that anybody else could do meanwhile are made at once, and
 * alone. Every other order of the same moves leads to a state with the same future, so nothing is lost by not trying it.
 *
 * Only in worlds in which nothing can go wrong (`isCalm`): there no timer runs while anything else can happen, nobody is
 * lost, and the coordinator does nothing but count. What is made at once, and why it commutes there:
 * - a fact that the coordinator only counts (`counted`): two of different participants lead to the same tracks, notes and
 *   orders in either order; what a participant does appends to the other end of the queue;
 * - the orders to prepare, drain, capture and release, and a store's calls for all but `drain`: they read and change
 *   nothing that a message, a handler, a write or an outsider does. The drain ends with the same messages whether its
 *   order comes before or after them. A release matters to a process with open handlers, and is not made at once then;
 * - a marker that reaches a process which has entered its epoch already: it changes only by what the drain says that it
 *   was ended (`endedBy`), which no rule reads;
 * - the seal: what it is made of has all been captured, and what judges it does not change any more.
 *
 * Each of these moves uses up what it is made of, so no cycle can put another move off for ever; and a finding stays in
 * all later states. If a fact appears that is not among those (`isCommuting`), some order would have led to it as well:
 * the whole exploration is then made again without reduction.
 */
import type { Fact, Order, StoreCall } from '@stillpoint/core'
import type { World } from './model.ts'
import { channelMoves, downlinkMoves, type Move, sealMoves, storeMoves, uplinkMoves } from './moves.ts'

const counted: ReadonlySet<Fact['type']> = new Set<Fact['type']>([
  'ready',
  'held',
  'entering',
  'marked',
  'resumed',
  'drained',
  'captured',
  'released',
])
const unseen: ReadonlySet<Order['type']> = new Set<Order['type']>(['prepare', 'drain', 'capture', 'release'])
const unseenCalls: ReadonlySet<StoreCall['call']> = new Set<StoreCall['call']>(['prepare', 'capture', 'release'])

/** Nothing can go wrong, has gone wrong, or is left over from before. */
export function isCalm(world: World): boolean {
  const { faults, trouble, coordinator, uplinks, processes, stores } = world
  const isFaultless = Object.values(faults).every((count) => count === 0)
  const isFresh = Object.keys(uplinks).every((name) => processes[name] !== undefined || stores[name] !== undefined)
  return isFaultless && isFresh && trouble === 0 && coordinator !== null
}

/** No news is under way that does not commute with other news. */
export function isCommuting({ uplinks }: World): boolean {
  return Object.values(uplinks).every((queue) => queue.every((news) => news !== 'lost' && counted.has(news.fact.type)))
}

/** A move that need not be tried in any other order; `null` when there is none. */
export function nextAlone(world: World): Move | null {
  for (const [name, [head]] of Object.entries(world.uplinks)) {
    if (head !== undefined) return first(uplinkMoves(world, name))
  }
  for (const [name, [head]] of Object.entries(world.downlinks)) {
    if (head === undefined || head === 'lost' || !unseen.has(head.order.type)) continue
    const isOpen = (world.processes[name]?.state.open.size ?? 0) > 0
    if (!isOpen) return first(downlinkMoves(world, name))
  }
  for (const [channel, [head]] of Object.entries(world.channels)) {
    const receiver = world.processes[channel.split('→')[1] ?? '']
    if (head?.type === 'marker' && receiver !== undefined && receiver.state.epoch >= head.stamp.epoch) {
      return first(channelMoves(world, channel))
    }
  }
  for (const [name, { call }] of Object.entries(world.stores)) {
    if (call !== null && unseenCalls.has(call)) return first(storeMoves(world, name))
  }
  return first(sealMoves(world))
}

function first([move]: readonly Move[]): Move | null {
  return move ?? null
}
