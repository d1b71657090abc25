/**
 * Everything from outside is validated before it gets here (session/validate.ts). What a machine does not know all the
 * same is a bug of ours: it ends the program, and is never passed over.
 */
import { describe, expect, test } from 'vitest'
import { AssertionError, defined } from '../kernel/assert.ts'
import { decideCoordinator } from './coordinator.ts'
import { decideProcess } from './process.ts'
import { cutRef, heldProcess } from './testing/process-rig.ts'
import { evidence, StoreRig } from './testing/store-rig.ts'
import { System } from './testing/system-rig.ts'

/** Of a type that no version of the protocol has. */
const unknown = { type: 'melt', call: 'melt', ref: cutRef, nowMs: 0 } as never

describe('what nobody knows ends the program', () => {
  test('an input or an order at a process', () => {
    const rig = heldProcess()
    expect(() => decideProcess(rig.state, unknown)).toThrow(AssertionError)
    expect(() => rig.order(unknown)).toThrow(AssertionError)
  })

  test('an input, an order or an answer at a store', () => {
    const rig = new StoreRig()
    expect(() => rig.tell(unknown)).toThrow(AssertionError)
    rig.prepare()
    expect(() => rig.order(unknown)).toThrow(AssertionError)
    // Even if it were the answer to the call that runs.
    const work = defined(rig.state.work, 'work')
    rig.state = { ...rig.state, work: { ...work, running: 'melt' as never } }
    expect(() => rig.answer(unknown)).toThrow(AssertionError)
  })

  test('an input or a fact at the coordinator', () => {
    const system = new System()
    expect(() => decideCoordinator(system.coordinator, unknown)).toThrow(AssertionError)
    const { ref } = system.coordinator
    expect(() => system.report('a', { ...evidence, type: 'melt', ref } as never)).toThrow(AssertionError)
  })
})
