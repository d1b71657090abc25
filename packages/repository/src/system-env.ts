/** The real clock, chance and entropy: the defaults where a test or the simulator passes its own. Nothing else is here. */
import { randomFillSync } from 'node:crypto'
import type { Clock, Entropy, Random } from '@stillpoint/core/kernel'

/** The longest delay of `setTimeout`; beyond it Node fires at once. */
const timerMsMax = 2 ** 31 - 1

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, wake, { keepsAlive = true } = {}) {
    const endMs = performance.now() + delayMs
    let timer: NodeJS.Timeout
    const arm = () => {
      const leftMs = endMs - performance.now()
      timer = setTimeout(
        () => {
          if (endMs - performance.now() > 1) arm()
          else wake()
        },
        Math.min(Math.max(0, Math.ceil(leftMs)), timerMsMax),
      )
      if (!keepsAlive) timer.unref()
    }
    arm()
    return () => clearTimeout(timer)
  },
}

export const systemRandom: Random = {
  uint32() {
    const [value = 0] = randomFillSync(new Uint32Array(1))
    return value
  },
}

export const systemEntropy: Entropy = {
  fill(target) {
    randomFillSync(target)
  },
}
