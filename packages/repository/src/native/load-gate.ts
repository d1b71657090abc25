/**
 * Owns that no thread is ended while it loads native code. Ending it, or the process, makes calls of Node's interface for
 * native modules fail, and koffi's binary ends the whole process with SIGABRT where that happens while it sets itself up.
 *
 * A gate is a number in memory that a thread shares with the one that has started it. The thread loads only if it finds the
 * gate open; who is about to end the thread closes the gate, or waits until what is being loaded is loaded.
 */
import { isMainThread, workerData } from 'node:worker_threads'

export type LoadGate = Int32Array

const [open, loading, loaded, closed] = [0, 1, 2, 3]
/** Loading takes some milliseconds; on a machine that does not get on, what happens then is no worse than without a gate. */
const waitMsMax = 10_000

/** Of threads that are not ended. */
const gates = new Set<LoadGate>()
let isWatching = false

/**
 * For a thread that is about to be started, in its `workerData` as `loadGate`. Undefined where this thread may itself be
 * ended at any time, with those that it has started: they load nothing.
 */
export function createLoadGate(): LoadGate | undefined {
  if (!isMainThread) return undefined
  // The end of the process ends its threads, after this.
  if (!isWatching) process.on('exit', () => gates.forEach(closeGate))
  isWatching = true
  const gate = new Int32Array(new SharedArrayBuffer(4))
  gates.add(gate)
  return gate
}

/** Before the thread is ended, or when it has. Blocks while it loads. */
export function closeGate(gate: LoadGate): void {
  gates.delete(gate)
  if (Atomics.compareExchange(gate, 0, open, closed) === loading) Atomics.wait(gate, 0, loading, waitMsMax)
}

/** What `load` returns; undefined where it must not be called. To be called once in a thread. */
export function loadThroughGate<T>(load: () => T): T | undefined {
  if (isMainThread) return load()
  const gate = gateOf(workerData)
  if (gate === undefined || Atomics.compareExchange(gate, 0, open, loading) !== open) return undefined
  try {
    return load()
  } finally {
    Atomics.store(gate, 0, loaded)
    Atomics.notify(gate, 0)
  }
}

function gateOf(given: unknown): LoadGate | undefined {
  if (typeof given !== 'object' || given === null || !('loadGate' in given)) return undefined
  return given.loadGate instanceof Int32Array ? given.loadGate : undefined
}
