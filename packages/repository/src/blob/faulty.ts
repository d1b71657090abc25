/**
 * Owns fault injection: a `BlobStore` around another one that fails as storage does, by chance from a seed or by a
 * rule. For tests, and for trying out what a deployment survives. Each fault is one that a real backend has shown.
 *
 * Invariant: the same seed over the same sequence of calls injects the same faults.
 */
import { Failure, type Random } from '@stillpoint/core/kernel'
import type { BlobStore, ObjectKind, ObjectName } from './blob-store.ts'

export const faultKinds = [
  /** Fails, and nothing was done. */
  'refused',
  /** Done, but the answer is lost. `list`: all but its beginning. */
  'answerLost',
  /** `put`: fails for good, as a full disk. */
  'full',
  /** `get`: one bit differs. Silent. */
  'bitFlipped',
  /** `get`: answers fewer bytes. Silent. */
  'cutShort',
  /** `put`: says `created` and stores nothing. Silent. */
  'lied',
  /** `list`: leaves out what was put last. Silent. */
  'listedLate',
] as const
export type FaultKind = (typeof faultKinds)[number]

export type StoreOperation = 'prepare' | 'put' | 'get' | 'size' | 'list' | 'delete' | 'sweep'

export interface InjectedFault {
  readonly fault: FaultKind
  readonly operation: StoreOperation
  readonly object?: ObjectName
}

export interface FaultOptions {
  readonly random: Random
  /** Probability of each fault at each operation that can have it, from 0 to 1. */
  readonly rates: Partial<Readonly<Record<FaultKind, number>>>
  /** Spares some operations. Default: none. */
  readonly spares?: (operation: StoreOperation, object: ObjectName | undefined) => boolean
  readonly onFault?: (fault: InjectedFault) => void
}

const possible: Readonly<Record<StoreOperation, readonly FaultKind[]>> = {
  prepare: ['refused', 'answerLost'],
  put: ['refused', 'answerLost', 'full', 'lied'],
  get: ['refused', 'bitFlipped', 'cutShort'],
  size: ['refused'],
  list: ['refused', 'answerLost', 'listedLate'],
  delete: ['refused', 'answerLost'],
  sweep: ['refused'],
}

export function faultyStore(store: BlobStore, options: FaultOptions): BlobStore {
  const last = new Map<ObjectKind, string>()

  function drawn(operation: StoreOperation, object?: ObjectName): FaultKind | undefined {
    if (options.spares?.(operation, object) === true) return undefined
    for (const fault of possible[operation]) {
      const rate = options.rates[fault] ?? 0
      // Drawn also for a rate of 0: another rate must not shift the chances of the rest.
      if (options.random.uint32() / 2 ** 32 >= rate) continue
      options.onFault?.({ fault, operation, ...(object === undefined ? {} : { object }) })
      return fault
    }
    return undefined
  }

  async function around<T>(operation: StoreOperation, object: ObjectName | undefined, action: () => Promise<T>) {
    const fault = drawn(operation, object)
    if (fault === 'refused' || fault === 'full') throw injected(fault, operation)
    const result = await action()
    if (fault === 'answerLost') throw injected(fault, operation)
    return { result, fault }
  }

  return {
    traits: store.traits,
    locate: (object) => store.locate(object),
    prepare: async () => (await around('prepare', undefined, () => store.prepare())).result,
    async put(object, bytes) {
      const fault = drawn('put', object)
      if (fault === 'refused' || fault === 'full') throw injected(fault, 'put')
      if (fault === 'lied') return 'created'
      const outcome = await store.put(object, bytes)
      last.set(object.kind, object.name)
      if (fault === 'answerLost') throw injected(fault, 'put')
      return outcome
    },
    async get(object, range) {
      const { result, fault } = await around('get', object, () => store.get(object, range))
      if (result.length === 0) return result
      if (fault === 'cutShort') return Buffer.from(result.subarray(0, options.random.uint32() % result.length))
      if (fault === 'bitFlipped') flipBit(result, options.random)
      return result
    },
    size: async (object) => (await around('size', object, () => store.size(object))).result,
    async *list(kind) {
      const fault = drawn('list')
      if (fault === 'refused') throw injected(fault, 'list')
      const late = fault === 'listedLate' ? last.get(kind) : undefined
      for await (const batch of store.list(kind)) {
        yield fault === 'answerLost'
          ? batch.slice(0, Math.ceil(batch.length / 2))
          : batch.filter(({ name }) => name !== late)
        if (fault === 'answerLost') break
      }
      if (fault === 'answerLost') throw injected(fault, 'list')
    },
    delete: async (object) => (await around('delete', object, () => store.delete(object))).result,
    sweep: async () => (await around('sweep', undefined, () => store.sweep())).result,
  }
}

function flipBit(bytes: Buffer, random: Random): void {
  const at = random.uint32() % bytes.length
  bytes[at] = (bytes[at] ?? 0) ^ (1 << (random.uint32() % 8))
}

function injected(fault: 'refused' | 'full' | 'answerLost', operation: StoreOperation): Failure {
  if (fault === 'full') {
    return new Failure({ code: 'no_space', message: `${operation}: no space is left on the device (injected)` })
  }
  const what = fault === 'refused' ? 'refused' : 'the answer was lost'
  return new Failure({ code: 'storage_failed', message: `${operation}: ${what} (injected)`, retry: 'later' })
}
