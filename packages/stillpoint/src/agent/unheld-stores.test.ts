import { type CutId, participantName } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import type { SourceSession } from '../sources/source.ts'
import { systemClock } from '../system-env.ts'
import { UnheldStores } from './unheld-stores.ts'

const cut = 'cut-1' as CutId
const signal = AbortSignal.timeout(10_000)

/** A store that nobody can hold: its position is a number that anybody may raise at any time. */
class Counter {
  value = 0
  marks = 0
  onMark: () => void = () => {}
  readonly released: string[] = []

  session(): SourceSession {
    const none = async () => {
      throw new Error('not used here')
    }
    return {
      traits: { hold: 'none', mark: 'exact' },
      prepare: none,
      quiesce: none,
      resume: none,
      mark: async (of) => {
        this.marks += 1
        const position = { value: this.value }
        this.onMark()
        return { cut: of, position, caveats: [] }
      },
      capture: async () => ({ bytes: 0, files: 0, torn: [], notes: ['own'] }),
      release: async (of) => void this.released.push(of),
      checkTarget: none,
      restore: none,
      verify: none,
      close: async () => {},
    }
  }
}

function join(count: number) {
  const stores = new UnheldStores(systemClock)
  return Array.from({ length: count }, (_, index) => {
    const counter = new Counter()
    return { counter, session: stores.join(participantName(`store-${index}`), counter.session()) }
  })
}

describe('stores that nobody can hold', () => {
  test('a store that can hold is left as it is', () => {
    const session = { ...new Counter().session(), traits: { hold: 'writes', mark: 'exact' } } as const
    expect(new UnheldStores(systemClock).join(participantName('a'), session)).toBe(session)
  })

  test('one alone is marked once; its hold is unbroken only once it is marked', async () => {
    const [one] = join(1)
    if (one === undefined) throw new Error('none')
    await one.session.quiesce(cut, 1000, signal)
    expect((await one.session.resume(cut)).unbroken).toBe(false)
    expect(await one.session.mark(cut, signal)).toEqual(await one.session.mark(cut, signal))
    expect(one.counter.marks).toBe(1)
    expect(await one.session.resume(cut)).toEqual({ unbroken: true })
  })

  test('several are marked around one instant', async () => {
    const all = join(3)
    const marks = await Promise.all(all.map(({ session }) => session.mark(cut, signal)))
    expect(marks.map(({ position }) => position)).toEqual(Array(3).fill({ value: 0 }))
    expect(all.map(({ counter }) => counter.marks)).toEqual([2, 2, 2])
    expect(all.flatMap(({ counter }) => counter.released)).toEqual(Array(3).fill(`${cut}-again`))
  })

  test('one that moves on between its marks ends the attempt, to be tried later', async () => {
    const all = join(2)
    const [first] = all
    if (first === undefined) throw new Error('none')
    first.counter.onMark = () => {
      first.counter.value += 1
    }
    const results = await Promise.allSettled(all.map(({ session }) => session.mark(cut, signal)))
    expect(results[0]).toMatchObject({ status: 'rejected', reason: { code: 'hold_unavailable', retry: 'later' } })
    expect((await first.session.resume(cut)).unbroken).toBe(false)
  })

  test('nobody waits for one that cannot be marked, or when the cut is given up', async () => {
    const [broken, waiting] = join(2)
    if (broken === undefined || waiting === undefined) throw new Error('none')
    broken.counter.onMark = () => {
      throw new Error('gone')
    }
    const wait = waiting.session.mark(cut, signal)
    await expect(broken.session.mark(cut, signal)).rejects.toThrow('gone')
    await expect(wait).rejects.toThrow('gone')

    const [absent, alone] = join(2)
    if (absent === undefined || alone === undefined) throw new Error('none')
    const controller = new AbortController()
    const marking = alone.session.mark(cut, controller.signal)
    controller.abort(new Error('given up'))
    await expect(marking).rejects.toThrow('given up')
  })
})
