/** Whatever ends a cut, at any step of it: nothing is left, and one outcome is recorded. */
import { describe, expect, test } from 'vitest'
import type { CutOutcome, CutPhase } from './coordinator-state.ts'
import { failureOf, nameOf } from './testing/process-rig.ts'
import { mixed, System, type SystemShape } from './testing/system-rig.ts'

const phases: readonly CutPhase[] = ['prepare', 'quiesce', 'mark', 'resume', 'collect', 'seal', 'release']

function endedRecords({ records }: System): readonly CutOutcome[] {
  return records.flatMap((record) => (record.type === 'ended' ? [record.outcome] : []))
}

/** What each cause does to a cut at a moment; answers whose doing it was. */
const causes: Readonly<Record<string, (system: System, who: string) => void>> = {
  'a failed fact': (system, who) => {
    const { ref } = system.coordinator
    system.report(who, { type: 'failed', ref, during: 'mark', failure: failureOf('store_down') })
  },
  'a lost participant': (system, who) => void system.lose(who),
  'a cancelled cut': (system) =>
    void system.tell({ type: 'cancelled', failure: failureOf('cancelled'), nowMs: system.nowMs }),
  'a deadline': (system) => void system.timeOut(),
}

describe('C7: whatever ends a cut, at any moment, leaves nothing held', () => {
  const shapes: Readonly<Record<string, SystemShape>> = {
    'owned, gated and quiesced stores': mixed,
    'processes only': { processes: ['a', 'b'], stores: [] },
    'stores only': {
      processes: [],
      stores: [
        { name: 's', writers: 'unknown' },
        { name: 't', writers: 'unknown' },
      ],
    },
  }
  const cases = Object.entries(shapes).flatMap(([name, shape]) =>
    Object.entries(causes).map(([cause, strike]) => [cause, name, shape, strike] as const),
  )

  test.each(cases)('%s: %s', (cause, _name, shape, strike) => {
    const seen = new Set<CutPhase>()
    for (const who of [...shape.processes, ...shape.stores.map(({ name }) => name)]) {
      for (let moment = 0; moment < 300; moment += 1) {
        const system = new System(shape)
        system.run(moment)
        const { phase, outcome: before } = system.coordinator
        if (phase === 'ended') break
        const isCaptured = system.coordinator.tracks.get(nameOf(who))?.captured != null
        strike(system, who)
        seen.add(phase)
        system.run()
        if (system.coordinator.phase !== 'ended') system.timeOut()
        system.passTime(60_000)
        const where = `${cause} of ${who} in ${phase}, step ${moment}`
        expect(system.leftovers(), where).toEqual([])
        // C6: one outcome, recorded once, told once.
        expect(endedRecords(system), where).toHaveLength(1)
        expect(system.outcomes, where).toEqual(endedRecords(system))
        const goesOn =
          before !== null || phase === 'seal' || (phase === 'collect' && isCaptured && cause.includes('participant'))
        const isSpared = goesOn || (isCaptured && cause === 'a failed fact')
        expect(endedRecords(system)[0]?.kind, where).toBe(isSpared ? 'sealed' : 'aborted')
      }
    }
    // Nobody is in doubt which phases were struck.
    expect([...seen].sort()).toEqual([...phases].sort())
  })
})
