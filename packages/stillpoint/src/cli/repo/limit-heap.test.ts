import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

/** MiB of V8's young generation after much has been made of which a part lives on for a while. */
function youngMiB(isLimited: boolean): number {
  const module = JSON.stringify(fileURLToPath(new URL('./limit-heap.ts', import.meta.url)))
  const program = `
    import { setImmediate } from 'node:timers/promises'
    import { getHeapSpaceStatistics } from 'node:v8'
    import { limitHeap } from ${module}
    if (${isLimited}) limitHeap()
    const kept = []
    for (let turn = 0; turn < 400; turn += 1) {
      for (let made = 0; made < 20_000; made += 1) kept[(turn * 20_000 + made) % 300_000] = { made: String(made) }
      await setImmediate()
    }
    console.log(getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space').space_size / (1 << 20))`
  return Number(execFileSync(process.execPath, ['--input-type=module-typescript', '-e', program], { encoding: 'utf8' }))
}

test('the young generation stays small, where V8 would let it grow', () => {
  const limited = youngMiB(true)
  // It may double once or twice before it is looked at.
  expect(limited).toBeLessThanOrEqual(32)
  expect(youngMiB(false)).toBeGreaterThan(limited)
})
