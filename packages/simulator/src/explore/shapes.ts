/** The worlds that are explored, each small enough to be explored whole. */
import type { Action, Faults, Script, Shape } from './model.ts'

const message = (id: number, to: string, does: readonly Action[] = []): Script => ({ id, to, amount: 1, does })
const send = (id: number, to: string, does: readonly Action[] = []): Action => ({
  do: 'send',
  message: message(id, to, does),
})
const fromOutside = (id: number, to: string): Script => ({ id, to, amount: 0, does: [] })
const request = (id: number, to: string, reply: number, does: readonly Action[] = []): Action => ({
  do: 'request',
  message: message(id, to, does),
  reply,
})
const write = (store: string): Action => ({ do: 'write', store, amount: 1 })

/** A sends to B, whose handler sends back; B begins something, too. */
const pingPong = { p0: [[send(1, 'p1', [send(2, 'p0')])]], p1: [[send(3, 'p0')]] } as const
const owned = [
  { name: 's0', writers: ['p0'] },
  { name: 's1', writers: ['p1'] },
]
const gated = [{ name: 's0', writers: ['p0', 'p1'] }]
const quiesced = [
  { name: 's0', writers: 'unknown' },
  { name: 's1', writers: 'unknown' },
] as const
const one = [{ name: 's0', writers: 'unknown' }] as const

const named: readonly Shape[] = [
  {
    name: 'flow-small',
    about: '2 processes, 1 message',
    processes: { p0: [[send(1, 'p1')]], p1: [] },
    stores: [],
    fifo: false,
    outsiders: [],
    faults: {},
  },
  {
    name: 'fifo-small',
    about: '2 processes, 1 message on a FIFO channel with markers',
    processes: { p0: [[send(1, 'p1')]], p1: [] },
    stores: [],
    fifo: true,
    outsiders: [],
    faults: {},
  },
  {
    name: 'flow',
    about: '2 processes, channels that overtake, 3 messages, no stores',
    processes: pingPong,
    stores: [],
    fifo: false,
    outsiders: [],
    faults: {},
  },
  {
    name: 'flow-fifo',
    about: '2 processes, FIFO channels with markers, 2 messages',
    processes: { p0: [[send(1, 'p1')]], p1: [[send(2, 'p0')]] },
    stores: [],
    fifo: true,
    outsiders: [],
    faults: {},
  },
  {
    name: 'line',
    about: '3 processes, 2 messages along a line',
    processes: { p0: [[send(1, 'p1', [send(2, 'p2')])]], p1: [], p2: [] },
    stores: [],
    fifo: false,
    outsiders: [],
    faults: {},
  },
  {
    name: 'requests',
    about: '2 processes that ask each other and wait for the replies',
    processes: { p0: [[request(1, 'p1', 2)]], p1: [[request(3, 'p0', 4)]] },
    stores: [],
    fifo: false,
    outsiders: [],
    faults: {},
  },
  {
    name: 'loss',
    about: '2 processes, 2 messages, 1 of them lost',
    processes: { p0: [[send(1, 'p1')]], p1: [[send(2, 'p0')]] },
    stores: [],
    fifo: false,
    outsiders: [],
    faults: { losses: 1 },
  },
  {
    name: 'crash',
    about: '2 processes, 1 crash',
    processes: { p0: [[send(1, 'p1')]], p1: [[send(2, 'p0')]] },
    stores: [],
    fifo: false,
    outsiders: [],
    faults: { crashes: 1 },
  },
  {
    name: 'takeover',
    about: '2 processes, the coordinator crashes anywhere and another one takes over',
    processes: { p0: [[send(1, 'p1')]], p1: [] },
    stores: [],
    fifo: false,
    outsiders: [],
    faults: { takeovers: 1 },
  },
  {
    name: 'takeover-store',
    about: '1 quiesced store and its writer, 1 takeover, 1 seal that fails',
    processes: { p0: [[write('s0')]] },
    stores: one,
    fifo: false,
    outsiders: [],
    faults: { takeovers: 1, sealFailures: 1 },
  },
  {
    name: 'expiry',
    about: '2 processes, 1 timer that goes off at any moment, stale facts, 1 order repeated',
    processes: { p0: [[send(1, 'p1')]], p1: [] },
    stores: [],
    fifo: false,
    outsiders: [],
    faults: { expiries: 1, repeats: 1 },
    stale: true,
  },
  {
    name: 'stale',
    about: '2 quiesced stores, facts of the attempt before that arrive only now',
    processes: {},
    stores: quiesced,
    fifo: false,
    outsiders: [],
    faults: {},
    stale: true,
  },
  {
    name: 'owned-one',
    about: '1 process that writes its own store, twice',
    processes: { p0: [[write('s0')], [write('s0')]] },
    stores: [{ name: 's0', writers: ['p0'] }],
    fifo: false,
    outsiders: [],
    faults: {},
  },
  {
    name: 'owned',
    about: '2 processes, each with a store of its own, 1 message and its answer',
    processes: { p0: [[write('s0'), send(1, 'p1', [write('s1'), send(2, 'p0', [write('s0')])])]], p1: [] },
    stores: owned,
    fifo: false,
    outsiders: [],
    faults: {},
  },
  {
    name: 'gated',
    about: '2 processes that write one store, 1 message',
    processes: { p0: [[write('s0'), send(1, 'p1', [write('s0')])]], p1: [] },
    stores: gated,
    fifo: false,
    outsiders: [],
    faults: {},
  },
  {
    name: 'gated-requests',
    about: '2 processes that write one store and ask each other',
    processes: { p0: [[request(1, 'p1', 2, [write('s0')])]], p1: [[write('s0')]] },
    stores: gated,
    fifo: false,
    outsiders: [],
    faults: {},
  },
  {
    name: 'gated-expiry',
    about: '2 processes that write one store, 1 message, 1 timer that goes off at any moment',
    processes: { p0: [[write('s0'), send(1, 'p1', [write('s0')])]], p1: [] },
    stores: gated,
    fifo: false,
    outsiders: [],
    faults: { expiries: 1 },
  },
  {
    name: 'barrier',
    about: '2 quiesced stores and 2 outsiders who carry what they learn, leases that end at any moment',
    processes: {},
    stores: quiesced,
    fifo: false,
    outsiders: [
      ['s0', 's1'],
      ['s1', 's0'],
    ],
    faults: { expiries: 2 },
  },
  {
    name: 'quiesced-one',
    about: '1 process that writes 1 quiesced store',
    processes: { p0: [[write('s0')]] },
    stores: one,
    fifo: false,
    outsiders: [],
    faults: {},
  },
  {
    name: 'outsider',
    about: '2 processes and an outsider between them, 1 message',
    processes: { p0: [[send(1, 'p1')]], p1: [] },
    stores: [],
    fifo: false,
    outsiders: [['p0', 'p1', 'p0']],
    faults: {},
  },
  {
    name: 'joiner',
    about: '2 processes, 1 outside the plan that is ahead of the order to mark, an outsider who carries what it learns',
    processes: { p0: [], p1: [] },
    stores: [],
    fifo: false,
    outsiders: [['p0', 'p1']],
    strangers: { z: { epoch: 2, sends: [fromOutside(50, 'p0')] } },
    faults: {},
  },
  {
    name: 'bystander',
    about: '2 processes, 1 outside the plan that does not know of the cut, an outsider who tells it what it learns',
    processes: { p0: [], p1: [] },
    stores: [],
    fifo: false,
    outsiders: [['p0', 'z']],
    strangers: { z: { epoch: 1, sends: [fromOutside(50, 'p1')] } },
    faults: {},
  },
  {
    name: 'quiesced',
    about: '1 process, 1 quiesced store, 1 outsider who visits both, 1 timer that goes off at any moment',
    processes: { p0: [[write('s0')], [write('s0')]] },
    stores: one,
    fifo: false,
    outsiders: [['p0', 's0', 'p0']],
    faults: { expiries: 1 },
  },
  {
    name: 'quiesced-pair',
    about: '2 processes, 1 quiesced store, 1 outsider',
    processes: { p0: [[write('s0')]], p1: [[write('s0')]] },
    stores: one,
    fifo: false,
    outsiders: [['p0', 's0']],
    faults: {},
  },
]

const line = { p0: [[send(1, 'p1', [send(2, 'p2')])]], p1: [], p2: [] } as const
const triangle = { p0: [[send(1, 'p1', [send(2, 'p2', [send(3, 'p0')])])]], p1: [], p2: [[send(4, 'p1')]] } as const
const bases: readonly Pick<Shape, 'name' | 'about' | 'processes' | 'stores'>[] = [
  {
    name: 'pair',
    about: '2 processes, a message each way',
    processes: { p0: [[send(1, 'p1')]], p1: [[send(2, 'p0')]] },
    stores: [],
  },
  {
    name: 'shared',
    about: '2 processes that write one store, 1 message',
    processes: { p0: [[write('s0'), send(1, 'p1', [write('s0')])]], p1: [] },
    stores: gated,
  },
  {
    name: 'own',
    about: '2 processes, each with a store of its own, 1 message',
    processes: { p0: [[write('s0'), send(1, 'p1', [write('s1')])]], p1: [] },
    stores: owned,
  },
  {
    name: 'held',
    about: '2 processes that write a quiesced store, 1 message',
    processes: { p0: [[write('s0'), send(1, 'p1', [write('s0')])]], p1: [] },
    stores: one,
  },
]
const troubles: readonly (readonly [string, string, Partial<Faults>])[] = [
  ['crash', '1 crash', { crashes: 1 }],
  ['loss', '1 message lost', { losses: 1 }],
  ['takeover', '1 takeover', { takeovers: 1 }],
  ['crash-takeover', '1 crash and 1 takeover', { crashes: 1, takeovers: 1 }],
]

/** Each base, with channels that overtake and with FIFO channels, and each trouble in it. */
const crossed = bases.flatMap((base) =>
  [false, true].flatMap((fifo) =>
    troubles.map(([word, words, faults]): Shape => {
      const name = `${base.name}-${fifo ? 'fifo-' : ''}${word}`
      const about = `${base.about}, ${fifo ? 'FIFO channels' : 'channels that overtake'}, ${words}`
      return { ...base, name, about, fifo, outsiders: [], faults }
    }),
  ),
)

export const shapes: readonly Shape[] = [
  ...named,
  {
    name: 'triangle',
    about: '3 processes, 4 messages around',
    processes: triangle,
    stores: [],
    fifo: false,
    outsiders: [],
    faults: {},
  },
  {
    name: 'line-fifo',
    about: '3 processes, 2 messages along a line, FIFO channels',
    processes: line,
    stores: [],
    fifo: true,
    outsiders: [],
    faults: {},
  },
  {
    name: 'line-loss',
    about: '3 processes, 2 messages along a line, 1 of them lost',
    processes: line,
    stores: [],
    fifo: false,
    outsiders: [],
    faults: { losses: 1 },
  },
  {
    name: 'line-takeover',
    about: '3 processes, 2 messages along a line, 1 takeover',
    processes: line,
    stores: [],
    fifo: false,
    outsiders: [],
    faults: { takeovers: 1 },
  },
  {
    name: 'line-crash',
    about: '3 processes, 2 messages along a line, 1 crash',
    processes: line,
    stores: [],
    fifo: false,
    outsiders: [],
    faults: { crashes: 1 },
  },
  // Two of them have names of their own: `crash` and `loss`.
  ...crossed.filter(({ name }) => name !== 'pair-crash' && name !== 'pair-loss'),
]
