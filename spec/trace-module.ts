/**
 * Traces of the seeded worlds as a TLA+ module that spec/CutTrace.tla can follow.
 *
 * Owns: the shapes of the worlds whose traces are checked, and the writing of a trace as TLA+ values.
 * Does not own: what a step means; packages/core/src/cut/testing/trace-export.ts and CutTrace.tla do.
 */
import { exportTrace, type Trace, type TraceStep } from '../packages/core/src/cut/testing/trace-export.ts'
import type { WorldOptions } from '../packages/core/src/cut/testing/world-types.ts'

export interface TraceShape {
  readonly name: string
  readonly about: string
  readonly cuts: number
  readonly world: Omit<WorldOptions, 'seed'>
}

const shortLeases = { leaseMs: 1_100, quiesceMs: 3_000, markMs: 900, resumeMs: 900, handlerMs: 1_090, drainMs: 900 }
const patient = { leaseMs: 8_000, quiesceMs: 8_000, handlerMs: 6_000 }

export const traceShapes: readonly TraceShape[] = [
  {
    name: 'flow',
    about: 'three processes, FIFO channels, two cuts',
    cuts: 2,
    world: { processes: 3, fifo: true, stores: [], deadlines: patient },
  },
  {
    name: 'loose',
    about: 'three processes, channels that reorder, orders that repeat, two cuts',
    cuts: 2,
    world: { processes: 3, fifo: false, stores: [], deadlines: patient, faults: { repeat: 200 } },
  },
  {
    name: 'owned',
    about: 'two processes that own a store each',
    cuts: 2,
    world: {
      processes: 2,
      fifo: true,
      deadlines: patient,
      stores: [
        { name: 's0', writers: ['p0'] },
        { name: 's1', writers: ['p1'] },
      ],
    },
  },
  {
    name: 'gated',
    about: 'two processes that write one store, connections that break',
    cuts: 2,
    world: {
      processes: 2,
      fifo: false,
      deadlines: patient,
      stores: [{ name: 's0', writers: ['p0', 'p1'] }],
      faults: { disconnect: 6 },
    },
  },
  {
    name: 'quiesced',
    about: 'two processes, two held stores, outsiders, leases that end early',
    cuts: 2,
    world: {
      processes: 2,
      fifo: false,
      outsiders: 2,
      deadlines: shortLeases,
      stores: [
        { name: 's0', writers: 'unknown' },
        { name: 's1', writers: 'unknown' },
      ],
    },
  },
]

export interface TraceSet {
  readonly traces: readonly { readonly seed: number; readonly trace: Trace }[]
  /** Seeds in which a process marked without waiting for a handler: the specification's handlers are instants. */
  readonly left: readonly number[]
}

/** The traces of the seeds from 1 on, until there are that many that the specification can speak of. */
export function collectTraces(shape: TraceShape, seeds: number): TraceSet {
  const traces: { seed: number; trace: Trace }[] = []
  const left: number[] = []
  for (let seed = 1; traces.length < seeds && seed <= seeds * 4; seed += 1) {
    const trace = exportTrace({ ...shape.world, seed }, shape.cuts)
    if (trace.openHandlers) left.push(seed)
    else traces.push({ seed, trace })
  }
  return { traces, left }
}

/** A module that extends CutTrace with these traces, and its configuration. */
export function traceModule(name: string, shape: TraceShape, traces: readonly Trace[]): { tla: string; cfg: string } {
  const processes = Array.from({ length: shape.world.processes }, (_, index) => `p${index}`)
  const stores = shape.world.stores.map((store) => store.name)
  let sendsMax = 1
  for (const { steps } of traces) for (const step of steps) if (step.e === 'sent') sendsMax = Math.max(sendsMax, step.s)
  const grades = shape.world.stores.map(({ name, writers }) => {
    const grade = writers === 'unknown' ? 'quiesced' : writers.length === 1 ? 'owned' : 'gated'
    return { name, grade, writers: writers === 'unknown' ? processes : writers }
  })
  const tla = [
    `---- MODULE ${name} ----`,
    'EXTENDS CutTrace',
    `TraceGrade == ${functionOf(grades.map((one) => [one.name, quoted(one.grade)]))}`,
    `TraceWriters == ${functionOf(grades.map((one) => [one.name, setOf(one.writers.map(quoted))]))}`,
    'TraceChannels == {c \\in Procs \\X Procs : c[1] # c[2]}',
    `TheTraces == <<\n${traces.map(({ steps }) => `<<\n${steps.map(stepOf).join(',\n')}\n>>`).join(',\n')}\n>>`,
    '====',
  ]
  const cfg = [
    'SPECIFICATION TraceSpec',
    'CONSTANTS',
    `  Procs = ${setOf(processes.map(quoted))}`,
    '  Joiners = {}',
    `  Stores = ${setOf(stores.map(quoted))}`,
    '  Outsiders = {}',
    '  Grade <- TraceGrade',
    '  Writers <- TraceWriters',
    '  Channels <- TraceChannels',
    `  Fifo = ${shape.world.fifo ? 'TRUE' : 'FALSE'}`,
    '  Volatile = FALSE\n  Dups = FALSE\n  LeasesEnd = TRUE\n  MayAbort = TRUE\n  CoordsMax = 1\n  RestoresMax = 0',
    `  SendsMax = ${sendsMax}`,
    `  AttemptsMax = ${shape.cuts}`,
    `  Overruns = TRUE\n  HoldsMax = 9\n  LossesMax = 99\n  Faults = {}\n  Traces <- TheTraces`,
    'INVARIANTS\n  Closed C1 C2 C3 C4 C5 C6 C7 C8 C9',
    'CONSTRAINT Followed',
    'CHECK_DEADLOCK FALSE',
  ]
  return { tla: `${tla.join('\n')}\n`, cfg: `${cfg.join('\n')}\n` }
}

function stepOf(step: TraceStep): string {
  const fields = [`e |-> ${quoted(step.e)}`]
  if ('x' in step) fields.push(`x |-> ${quoted(step.x)}`)
  if ('n' in step) fields.push(`n |-> ${step.n}`)
  if ('o' in step) fields.push(`o |-> ${step.o ? 'TRUE' : 'FALSE'}`)
  if ('u' in step) fields.push(`u |-> ${step.u ? 'TRUE' : 'FALSE'}`)
  if ('c' in step) fields.push(`c |-> ${channelOf(step.c)}`)
  if ('s' in step) fields.push(`s |-> ${step.s}`)
  if ('reliedOn' in step) {
    fields.push(`reliedOn |-> ${functionOf(Object.entries(step.reliedOn).map(([name, hold]) => [name, String(hold)]))}`)
  }
  if ('channels' in step) {
    const drains = step.channels.map(({ c, recorded, missing }) => {
      return `[c |-> ${channelOf(c)}, recorded |-> ${setOf(recorded)}, missing |-> ${setOf(missing)}]`
    })
    fields.push(`channels |-> <<${drains.join(', ')}>>`)
  }
  return `[${fields.join(', ')}]`
}

function channelOf([from, to]: readonly [string, string]): string {
  return `<<${quoted(from)}, ${quoted(to)}>>`
}

function functionOf(entries: readonly (readonly [string, string])[]): string {
  if (entries.length === 0) return '[x \\in {} |-> x]'
  return `(${entries.map(([name, value]) => `${quoted(name)} :> ${value}`).join(' @@ ')})`
}

function setOf(items: readonly (string | number)[]): string {
  return `{${items.join(', ')}}`
}

function quoted(text: string): string {
  return JSON.stringify(text)
}
