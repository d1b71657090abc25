/**
 * Owns the threads that do a repository's heavy work, and which task goes where. What the tasks do: see tasks.ts.
 *
 * Invariants: 1. `run` settles once, and when it has, no thread touches the task's memory any more: also after an abort,
 * also when its thread has died. 2. A thread that dies fails exactly the tasks that it had; the others go on. 3. Threads
 * are started only for work that is worth it, end when there is none for a while, and keep no process alive without any.
 */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { assert, type Clock, Failure } from '@stillpoint/core/kernel'
import { closeGate, createLoadGate, type LoadGate } from '../native/load-gate.ts'
import { decodeTaskError } from './task-error.ts'
import { runTask, type TaskContext, type TaskInput, type TaskKind, type TaskResult } from './tasks.ts'
import type { TaskReply, TaskRequest, WorkerMessage } from './worker.ts'

export interface RunOptions {
  /** About how many bytes are worked on: while they are few, work is done at once, in this thread. */
  readonly bytes: number
  readonly signal?: AbortSignal
}

export interface WorkPool {
  /** How many threads there are when there is much to do; 0: everything is done in this thread. */
  readonly threads: number
  /** Starts them before there is work, for who knows that there will be much; without any they end as always. */
  startThreads(): void
  /**
   * @throws what the task throws (`DamageError`, `Failure`, errors of the operating system); Failure `worker_failed`;
   * the signal's reason: at once if it has not begun, otherwise when it has ended.
   */
  run<K extends TaskKind>(kind: K, input: TaskInput<K>, options: RunOptions): Promise<TaskResult<K>>
  /** Ends all threads; what they were doing fails with `worker_failed`. The pool can be used again. */
  close(): Promise<void>
}

export interface WorkPoolOptions {
  /** Asked at the first task: threads may start before the keys are known. */
  readonly context: () => TaskContext
  readonly clock: Clock
  /** Default: as many as the process may use processors. */
  readonly threads?: number
  /** Work up to this many bytes, between pauses, is done in this thread: starting one costs as much. */
  readonly inlineBytesMax?: number
  /** For tests: another program that answers as worker.ts does. */
  readonly workerFile?: URL
}

const inlineBytesDefault = 4 << 20
/** Without work for so long, threads end. */
const idleMs = 5_000
/** Tasks that a thread has at a time: one that it does, one that it finds when that is done. */
const tasksPerThread = 2
/** Tasks leave little behind: with less young memory it stays in the processor's caches. */
const resourceLimits = { maxYoungGenerationSizeMb: 8 }
const workerFileDefault = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url)

interface PendingTask {
  readonly request: TaskRequest
  readonly signal: AbortSignal | undefined
  readonly resolve: (result: TaskResult<TaskKind>) => void
  readonly reject: (error: unknown) => void
}

interface Thread {
  readonly worker: Worker
  readonly tasks: Map<number, PendingTask>
  hasContext: boolean
  readonly loadGate: LoadGate | undefined
}

export function createWorkPool(options: WorkPoolOptions): WorkPool {
  const { context, clock } = options
  const threadsMax = options.threads ?? availableParallelism()
  const inlineBytesMax = options.inlineBytesMax ?? inlineBytesDefault
  const threads = new Set<Thread>()
  let queue: PendingTask[] = []
  let inlineBytes = 0
  let lastNumber = 0
  let stopIdling: (() => void) | undefined

  function endSoon(): void {
    const wake = () => {
      stopIdling = undefined
      inlineBytes = 0
      for (const thread of threads) if (thread.tasks.size === 0) void end(thread)
    }
    stopIdling ??= clock.after(idleMs, wake, { keepsAlive: false })
  }

  function stayUp(): void {
    stopIdling?.()
    stopIdling = undefined
  }

  async function end(thread: Thread): Promise<void> {
    threads.delete(thread)
    await terminate(thread)
  }

  function start(): Thread {
    const file = options.workerFile ?? workerFileDefault
    // What a thread has opened may be closed by another one: it must not be closed when the thread ends.
    // Options of the command line are for the main program (`--input-type`, `--test`, profilers), not for threads.
    const loadGate = createLoadGate()
    const settings = { name: 'repository work', execArgv: [], resourceLimits, trackUnmanagedFds: false }
    const worker = new Worker(file, { ...settings, workerData: { loadGate } })
    const thread: Thread = { worker, tasks: new Map(), hasContext: false, loadGate }
    threads.add(thread)
    worker.on('message', (reply: TaskReply) => settle(thread, reply))
    let cause: unknown
    worker.on('error', (error) => {
      cause = error
    })
    // A reply that cannot be read leaves a task without an answer.
    worker.on('messageerror', (error) => {
      cause = error
      void terminate(thread)
    })
    worker.on('exit', () => {
      if (loadGate !== undefined) closeGate(loadGate)
      threads.delete(thread)
      for (const task of thread.tasks.values()) task.reject(workerFailed(cause))
      thread.tasks.clear()
      dispatch()
    })
    // Last: listening for messages holds the process.
    worker.unref()
    return thread
  }

  function settle(thread: Thread, reply: TaskReply): void {
    const task = thread.tasks.get(reply.number)
    assert(task !== undefined, 'a reply is to a task that was given')
    thread.tasks.delete(reply.number)
    if (thread.tasks.size === 0) thread.worker.unref()
    if (task.signal?.aborted === true) task.reject(task.signal.reason)
    else if ('error' in reply) task.reject(decodeTaskError(reply.error))
    else task.resolve(reply.result)
    dispatch()
  }

  /** The thread with the least to do; another one is started before any gets a second task. */
  function freeThread(): Thread | undefined {
    let least: Thread | undefined
    for (const thread of threads) if (thread.tasks.size < (least?.tasks.size ?? tasksPerThread)) least = thread
    return threads.size < threadsMax && (least === undefined || least.tasks.size > 0) ? start() : least
  }

  function dispatch(): void {
    while (queue.length > 0) {
      let thread: Thread | undefined
      try {
        thread = freeThread()
      } catch (error) {
        return failQueued(error) // the system gives no more threads
      }
      if (thread === undefined) return
      const task = queue.shift()
      assert(task !== undefined, 'the queue is not empty')
      if (task.signal?.aborted === true) {
        task.reject(task.signal.reason)
        continue
      }
      give(thread, task)
    }
    if ([...threads].every((thread) => thread.tasks.size === 0)) endSoon()
  }

  function failQueued(cause: unknown): void {
    const queued = queue
    queue = []
    for (const task of queued) task.reject(workerFailed(cause))
  }

  function give(thread: Thread, task: PendingTask): void {
    const post = (message: WorkerMessage) => thread.worker.postMessage(message)
    try {
      if (!thread.hasContext) post({ context: context() })
      thread.hasContext = true
      post(task.request)
    } catch (error) {
      task.reject(error) // it cannot be cloned
      return
    }
    thread.tasks.set(task.request.number, task)
    thread.worker.ref()
  }

  function enqueue<K extends TaskKind>(kind: K, input: TaskInput<K>, signal: AbortSignal | undefined) {
    const result = Promise.withResolvers<TaskResult<TaskKind>>()
    lastNumber += 1
    const request = { number: lastNumber, kind, input }
    const task: PendingTask = { request, signal, resolve: result.resolve, reject: result.reject }
    const abort = () => {
      if (!queue.includes(task)) return
      queue = queue.filter((other) => other !== task)
      task.reject(signal?.reason)
    }
    signal?.addEventListener('abort', abort, { once: true })
    queue.push(task)
    stayUp()
    dispatch()
    return result.promise.finally(() => signal?.removeEventListener('abort', abort))
  }

  return {
    threads: threadsMax,
    startThreads() {
      while (threads.size < threadsMax) start()
      endSoon()
    },
    async run<K extends TaskKind>(kind: K, input: TaskInput<K>, { bytes, signal }: RunOptions): Promise<TaskResult<K>> {
      signal?.throwIfAborted()
      const isSmall = threads.size === 0 && inlineBytes + bytes <= inlineBytesMax
      if (threadsMax === 0 || isSmall) {
        inlineBytes += bytes
        if (threadsMax > 0) endSoon()
        return await runTask(kind, input, context())
      }
      // The reply to a task of a kind is of that kind: threads answer by number.
      return (await enqueue(kind, input, signal)) as TaskResult<K>
    },
    async close() {
      stayUp()
      inlineBytes = 0
      failQueued(undefined)
      await Promise.all([...threads].map(end))
    },
  }
}

async function terminate({ worker, loadGate }: Thread): Promise<void> {
  if (loadGate !== undefined) closeGate(loadGate)
  await worker.terminate()
}

function workerFailed(cause: unknown): Failure {
  const reason = cause instanceof Error ? cause.message : 'it was ended'
  return new Failure({
    code: 'worker_failed',
    message: `a thread of the repository ended in the middle of its work: ${reason}`,
    hint: 'Run it again. Where it happens again, there may be too little memory.',
    retry: 'later',
    cause,
  })
}
