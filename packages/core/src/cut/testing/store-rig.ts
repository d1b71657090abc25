/** For the direct tests of one store: its machine, with answers given by hand. */
import type { CutRef, Order } from '../messages.ts'
import type { Grade } from '../plan.ts'
import {
  decideStore,
  initialStore,
  type StoreAnswer,
  type StoreCall,
  type StoreEffect,
  type StoreInput,
  type StoreState,
} from '../store.ts'
import { cutRef, factsOf, failureOf, incarnationOf, nameOf, treeOf } from './process-rig.ts'

export const evidence = { tree: treeOf('t'), bytes: 3, files: 1, torn: [], notes: [], channels: {} }

/** A store `db`. What it is asked to do waits until the test answers it. */
export class StoreRig {
  state: StoreState = initialStore(nameOf('db'), incarnationOf('db-1'))
  nowMs = 0
  readonly grade: Grade

  constructor(grade: Grade = 'quiesced') {
    this.grade = grade
  }

  tell(input: StoreInput): readonly StoreEffect[] {
    const { state, effects } = decideStore(this.state, input)
    this.state = state
    return effects
  }

  order(order: Order): readonly StoreEffect[] {
    return this.tell({ type: 'ordered', order, nowMs: this.nowMs })
  }

  answer(answer: StoreAnswer, ref: CutRef = cutRef): readonly StoreEffect[] {
    return this.tell({ type: 'answered', ref, answer, nowMs: this.nowMs })
  }

  fail(call: StoreCall['call'], code = 'store_down'): readonly StoreEffect[] {
    return this.tell({ type: 'callFailed', ref: cutRef, call, failure: failureOf(code), nowMs: this.nowMs })
  }

  tick(nowMs: number): readonly StoreEffect[] {
    this.nowMs = nowMs
    return this.tell({ type: 'ticked', nowMs })
  }

  prepare(ref: CutRef = cutRef): readonly StoreEffect[] {
    return this.order({ type: 'prepare', ref, role: { kind: 'store', grade: this.grade, leaseMs: 1_000 } })
  }

  quiesce(): readonly StoreEffect[] {
    return this.order({ type: 'quiesce', ref: cutRef, stage: 'store', leaseMs: 1_000 })
  }

  give(type: 'mark' | 'resume' | 'capture' | 'ownedMarked', ref: CutRef = cutRef): readonly StoreEffect[] {
    return this.order({ type, ref })
  }

  release(ref: CutRef = cutRef): readonly StoreEffect[] {
    return this.order({ type: 'release', ref, outcome: 'aborted' })
  }

  prepared(): readonly StoreEffect[] {
    return this.answer({ call: 'prepare', estimateBytes: 9, version: 'model 1', notes: ['slow'] })
  }

  held(): readonly StoreEffect[] {
    return this.answer({ call: 'quiesce', endsAtMs: this.nowMs + 1_000 })
  }

  marked(): readonly StoreEffect[] {
    return this.answer({ call: 'mark', position: { lsn: '0/1' }, caveats: ['no row locks'] })
  }

  resumed(unbroken = true, detail?: string): readonly StoreEffect[] {
    return this.answer(detail === undefined ? { call: 'resume', unbroken } : { call: 'resume', unbroken, detail })
  }
}

export type Stage = 'prepared' | 'held' | 'marked' | 'resumed' | 'captured'

/** A store that has come as far as `stage`, by orders and answers. */
export function storeAt(stage: Stage, grade: Grade = 'quiesced'): StoreRig {
  const rig = new StoreRig(grade)
  const steps: readonly (readonly [Stage, () => void])[] = [
    ['prepared', () => [rig.prepare(), rig.prepared()]],
    ['held', () => grade === 'quiesced' && [rig.quiesce(), rig.held()]],
    ['marked', () => [rig.give('mark'), rig.marked()]],
    ['resumed', () => grade === 'quiesced' && [rig.give('resume'), rig.resumed()]],
    ['captured', () => [rig.give('capture'), rig.answer({ call: 'capture', evidence })]],
  ]
  for (const [name, go] of steps) {
    go()
    if (name === stage) return rig
  }
  return rig
}

export function calls(effects: readonly StoreEffect[]): readonly string[] {
  return effects.flatMap((effect) => {
    if (effect.type === 'call') return [effect.call.call]
    return effect.type === 'cancel' ? ['cancel'] : []
  })
}

export function facts(effects: readonly StoreEffect[]): readonly string[] {
  return factsOf(effects).map((fact) => (fact.type === 'failed' ? `failed ${fact.failure.code}` : fact.type))
}

/** Answers every call until none is running, as a store that obeys. */
export function settle(rig: StoreRig, first: readonly StoreEffect[]): { calls: string[]; facts: string[] } {
  const seen = { calls: [...calls(first)], facts: [...facts(first)] }
  for (let turns = 0; turns < 10; turns += 1) {
    const { work } = rig.state
    if (work === null || work.running === null) return seen
    const effects = answerRunning(rig, work.running, work.ref)
    seen.calls.push(...calls(effects))
    seen.facts.push(...facts(effects))
  }
  throw new Error('the store never comes to rest')
}

function answerRunning(rig: StoreRig, call: StoreCall['call'], ref: CutRef): readonly StoreEffect[] {
  switch (call) {
    case 'prepare':
      return rig.answer({ call, estimateBytes: 0, version: '', notes: [] }, ref)
    case 'quiesce':
      return rig.answer({ call, endsAtMs: rig.nowMs + 1_000 }, ref)
    case 'mark':
      return rig.answer({ call, position: {}, caveats: [] }, ref)
    case 'resume':
      return rig.answer({ call, unbroken: true }, ref)
    case 'capture':
      return rig.answer({ call, evidence }, ref)
    case 'release':
      return rig.answer({ call }, ref)
  }
}
