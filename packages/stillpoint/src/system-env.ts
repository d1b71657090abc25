/** The real clock, chance and entropy: what production passes where the simulator passes its own. */
export { systemClock, systemEntropy, systemRandom } from '@stillpoint/repository/system-env'
