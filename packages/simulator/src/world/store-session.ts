/** A coordinator's connection to a simulated store, as the production shell of a store sees it. */
import type { CutId } from '@stillpoint/core/kernel'
import type { SourceSession } from '../../../stillpoint/src/sources/source.ts'
import type { Machine } from './machine.ts'
import type { World } from './world.ts'

export function storeSession(world: World, name: string, client: Machine): SourceSession {
  const store = world.storeNode(name)
  const { random } = world
  const { life } = client
  /** There and back: nothing comes back to a client that has crashed. */
  const call = <T>(what: () => T, delayMsMax = 15): Promise<T> =>
    new Promise((resolve, reject) => {
      store.machine.reach(random.below(delayMsMax), () => {
        let answer: () => void
        try {
          const value = what()
          answer = () => resolve(value)
        } catch (error) {
          answer = () => reject(error)
        }
        if (client.life === life) client.reach(random.below(5), answer)
      })
    })
  const captureMs = (): number => (world.durable.storage === 'slow' ? 400 : 15)
  const unused = (): never => {
    throw new Error(`${name}: not part of a cut`)
  }
  return {
    traits: { hold: 'writes', mark: 'exact' },
    prepare: () => call(() => ({ estimateBytes: 1, version: 'simulated', notes: [] })),
    quiesce: (cut: CutId, leaseMs: number) => {
      // By the clock of whoever asks, from before it asked: never later than the store's own end.
      const endsAtMs = client.monotonicMs() + leaseMs
      return call(() => {
        store.quiesce(cut, leaseMs)
        return { cut, endsAtMs }
      })
    },
    mark: (cut) => call(() => ({ cut, position: store.mark(cut), caveats: [] })),
    resume: (cut) => call(() => ({ unbroken: store.resume(cut) })),
    capture: (cut) =>
      call(() => {
        store.upload(cut)
        return { bytes: 1, files: 1, torn: [], notes: [] }
      }, captureMs()),
    release: (cut) => call(() => void store.marks.delete(cut)),
    close: () => call(() => store.forgetClient()),
    checkTarget: unused,
    restore: unused,
    verify: unused,
  }
}
