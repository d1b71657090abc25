/** A process for tests: starts threads that load native calls, and ends after so many microseconds. */
import { Worker } from 'node:worker_threads'
import { createLoadGate } from '../native/load-gate.ts'

const microseconds = Number(process.argv[2])
for (let at = 0; at < 3; at += 1) {
  const workerData = { loadGate: createLoadGate() }
  new Worker(new URL('./native-thread.ts', import.meta.url), { workerData }).unref()
}
const until = performance.now() + microseconds / 1000
const wait = (): unknown => (performance.now() < until ? setImmediate(wait) : undefined)
wait()
