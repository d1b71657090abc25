/**
 * What a run is made of: all that is chosen before it begins. A seed gives a scenario; the shrinker takes parts of it
 * away. Plain data.
 */
import { createRandom, type SeededRandom } from './random.ts'

export type Fault =
  | { readonly kind: 'crash'; readonly atMs: number; readonly node: string; readonly forMs: number }
  | { readonly kind: 'pause'; readonly atMs: number; readonly node: string; readonly forMs: number }
  | { readonly kind: 'jump'; readonly atMs: number; readonly node: string; readonly byMs: number }
  /** `both`, or one way: what the node sends, or what it is sent, does not arrive. */
  | {
      readonly kind: 'partition'
      readonly atMs: number
      readonly node: string
      readonly forMs: number
      readonly way: 'both' | 'out' | 'in'
    }
  /** The coordinator is replaced; `zombie`: the old one still lives, and still sends. */
  | { readonly kind: 'takeover'; readonly atMs: number; readonly forMs: number; readonly zombie: boolean }
  | {
      readonly kind: 'storage'
      readonly atMs: number
      readonly forMs: number
      readonly how: 'slow' | 'failing' | 'lying'
    }

export type ChannelKind = 'fifo' | 'loose' | 'volatile'

export interface StoreShape {
  readonly name: string
  readonly writers: readonly string[] | 'unknown'
}

/**
 * A process that joins and leaves while cuts are taken. No plan names it that was made before it was there. It has no
 * tokens, and is sent none: conservation is about those who are in every plan.
 */
export interface Stranger {
  readonly name: string
  /** In order, and apart. `null`: it stays. */
  readonly stays: readonly { readonly fromMs: number; readonly forMs: number | null }[]
  /** While faults last, also after the first order to hold of each cut, if it is away: ahead of that cut's later orders. */
  readonly afterHold: { readonly afterMs: number; readonly forMs: number } | null
  /** Plans that are made while it is there name it. Otherwise it is an outsider to every cut (ADR 0008). */
  readonly isDeclared: boolean
  /** The others send to it, too: it hears of epochs by their messages and markers. */
  readonly isKnown: boolean
}

export interface Scenario {
  readonly seed: number
  readonly shape: string
  readonly processes: readonly string[]
  readonly stores: readonly StoreShape[]
  readonly channels: ChannelKind
  readonly outsiders: number
  readonly strangers: readonly Stranger[]
  /** Chances in 1,000, per message: while faults last. */
  readonly lossPerMille: number
  readonly doublePerMille: number
  readonly delayMsMax: number
  /** Clocks run at 1 ± this many millionths. */
  readonly driftPpm: number
  readonly faults: readonly Fault[]
  /** When faults stop; what is left then must heal. */
  readonly healMs: number
  readonly cutEveryMs: number
  readonly leaseMs: number
  readonly hasRequests: boolean
  readonly hasRestores: boolean
  /** The coordinator is made of the production shells, and its agent of the stores with it. */
  readonly hasShells: boolean
  /** Orders and facts take long, processes say little, and outsiders hurry, and only look. */
  readonly isHushed?: boolean
  /** The seal answers an error without asking the repository whether it was written: to show that this is a fault. */
  readonly sealsBlindly?: boolean
}

type ShapeMaker = (random: SeededRandom) => Partial<Scenario>

const names = (count: number): readonly string[] => Array.from({ length: count }, (_, index) => `p${index}`)
const unknown = (count: number): readonly StoreShape[] =>
  Array.from({ length: count }, (_, index) => ({ name: `s${index}`, writers: 'unknown' as const }))

/** Kinds of systems. Each seed has one. */
export const shapes: Readonly<Record<string, ShapeMaker>> = {
  /** Nothing goes wrong: every cut must be sealed as consistent. */
  calm: (random) => ({
    ...mixed(random),
    faults: [],
    lossPerMille: 0,
    doublePerMille: 0,
    leaseMs: 8_000,
    driftPpm: 0,
    hasRequests: false,
  }),
  flow: (random) => ({ processes: names(random.between(2, 4)), stores: [] }),
  owned: (random) => {
    const processes = names(random.between(2, 3))
    return { processes, stores: processes.map((writer, index) => ({ name: `s${index}`, writers: [writer] })) }
  },
  gated: (random) => {
    const processes = names(random.between(2, 3))
    return { processes, stores: [{ name: 's0', writers: processes }] }
  },
  quiesced: (random) => ({ processes: names(random.between(1, 3)), stores: unknown(random.between(1, 2)) }),
  barrier: (random) => ({
    processes: [],
    stores: unknown(random.between(2, 3)),
    outsiders: random.between(2, 3),
  }),
  mixed,
  /** The production shells of coordinator and agent, over every kind of system. */
  shells: (random) => ({
    ...random.pick([mixed, mixed, (one: SeededRandom) => ({ processes: names(one.between(2, 4)), stores: [] })])(
      random,
    ),
    hasShells: true,
    hasRestores: false,
  }),
}

function mixed(random: SeededRandom): Partial<Scenario> {
  const processes = names(random.between(2, 3))
  const [owner = ''] = processes
  const stores: StoreShape[] = [{ name: 's0', writers: [owner] }]
  if (random.chance(500)) stores.push({ name: 's1', writers: processes })
  if (random.chance(300)) stores.push({ name: 's2', writers: 'unknown' })
  return { processes, stores }
}

export function scenarioOf(seed: number, shapeName?: string): Scenario {
  const random = createRandom(seed)
  const shape = shapeName ?? random.pick(Object.keys(shapes))
  const make = shapes[shape]
  if (make === undefined) throw new Error(`There is no shape "${shape}". There are: ${Object.keys(shapes).join(', ')}`)
  const made = make(random)
  const channels = random.pick<ChannelKind>(['fifo', 'loose', 'volatile'])
  const base: Scenario = {
    seed,
    shape,
    processes: [],
    stores: [],
    channels,
    outsiders: random.below(3),
    strangers: [],
    lossPerMille: channels === 'volatile' && random.chance(400) ? random.between(5, 60) : 0,
    doublePerMille: random.chance(500) ? random.between(10, 100) : 0,
    delayMsMax: random.pick([2, 10, 40]),
    driftPpm: random.pick([0, 200, 50_000]),
    faults: [],
    healMs: random.between(800, 2_800),
    cutEveryMs: random.between(80, 400),
    leaseMs: random.pick([40, 60, 300, 8_000]),
    hasRequests: random.chance(400),
    hasRestores: random.chance(300),
    hasShells: false,
    ...made,
  }
  if (made.faults !== undefined) return base
  const faults = faultsOf(random, base)
  return base.processes.length === 0 ? { ...base, faults } : withStrangers({ ...base, faults })
}

/**
 * What is chosen here is chosen apart: a seed without strangers is the same world as if there were none anywhere.
 *
 * Where a stranger's word makes a process enter too early, somebody must carry what it does then to another that is not
 * held yet: half of these worlds are hushed, or a message of somebody who is held would be faster; and have no other
 * faults, in which most attempts would end.
 */
function withStrangers(scenario: Scenario): Scenario {
  const random = createRandom(scenario.seed ^ 0x57a96e)
  // Whoever writes to a store is held until that one is marked, whatever a stranger says.
  if (!random.chance(scenario.stores.length === 0 ? 600 : 150)) return scenario
  const { healMs } = scenario
  const strangers: Stranger[] = []
  const faults = [...scenario.faults]
  for (let count = random.chance(250) ? 2 : 1; count > 0; count -= 1) {
    const name = `z${strangers.length}`
    const isLate = random.chance(500)
    const [isDeclared, isKnown] = [!isLate && random.chance(600), random.chance(600)]
    const stays = isLate ? [] : staysOf(random, healMs, isDeclared)
    const afterHold = isLate ? { afterMs: random.below(10), forMs: random.between(40, 300) } : null
    strangers.push({ name, stays, afterHold, isDeclared, isKnown })
    if (random.chance(700)) continue
    const [atMs, forMs] = [random.below(healMs), random.between(10, 400)]
    if (random.chance(300)) faults.push({ kind: 'pause', atMs, node: name, forMs })
    else faults.push({ kind: 'partition', atMs, node: name, forMs, way: random.pick(['both', 'out', 'in']) })
  }
  faults.sort((a, b) => a.atMs - b.atMs)
  if (random.chance(500)) return { ...scenario, strangers, faults }
  return { ...scenario, strangers, isHushed: true, outsiders: 2, leaseMs: 8_000, faults: [] }
}

/** Nobody who is in no plan is there any more when all is to heal: whoever is heard costs an attempt (ADR 0008). */
function staysOf(random: SeededRandom, healMs: number, isDeclared: boolean): Stranger['stays'] {
  const stays: { fromMs: number; forMs: number | null }[] = []
  for (let fromMs = random.below(300); fromMs < healMs; ) {
    const forMs = random.between(40, 500)
    const isLast = fromMs + forMs >= healMs
    stays.push({ fromMs, forMs: !isLast ? forMs : isDeclared ? null : healMs - fromMs })
    fromMs += forMs + random.between(20, 400)
  }
  return stays
}

function faultsOf(random: SeededRandom, { processes, stores, healMs, hasShells }: Scenario): readonly Fault[] {
  const nodes = [...processes, ...stores.map(({ name }) => name)]
  const faults: Fault[] = []
  const count = random.chance(150) ? 0 : random.between(1, 6)
  for (let index = 0; index < count; index += 1) {
    const atMs = random.below(healMs)
    const node = random.pick(nodes)
    const forMs = random.between(10, 900)
    switch (random.below(7)) {
      case 0:
        faults.push({ kind: 'crash', atMs, node, forMs })
        break
      case 1:
        faults.push({ kind: 'pause', atMs, node, forMs })
        break
      case 2:
        faults.push({ kind: 'jump', atMs, node, byMs: random.between(10, 9_000) })
        break
      case 3:
        faults.push({ kind: 'partition', atMs, node, forMs, way: random.pick(['both', 'out', 'in']) })
        break
      case 4:
      case 5:
        faults.push({ kind: 'takeover', atMs, forMs, zombie: random.chance(500) })
        break
      default:
        faults.push({ kind: 'storage', atMs, forMs, how: random.pick(['slow', 'failing', 'lying']) })
    }
  }
  faults.sort((a, b) => a.atMs - b.atMs)
  // A system's lock is the operating system's: nobody replaces a production coordinator that still lives.
  return hasShells ? faults.map((fault) => (fault.kind === 'takeover' ? { ...fault, zombie: false } : fault)) : faults
}
