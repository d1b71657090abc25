/** A thread of the pool: does one task after the other. Its messages are those of work-pool.ts. */
import { parentPort } from 'node:worker_threads'
import { assert } from '@stillpoint/core/kernel'
import { encodeTaskError, type TaskError } from './task-error.ts'
import { runTask, type TaskContext, type TaskInput, type TaskKind, type TaskResult } from './tasks.ts'

export interface TaskRequest {
  readonly number: number
  readonly kind: TaskKind
  readonly input: TaskInput<TaskKind>
}

/** The context comes once, before the first task. */
export type WorkerMessage = { readonly context: TaskContext } | TaskRequest

export type TaskReply =
  | { readonly number: number; readonly result: TaskResult<TaskKind> }
  | { readonly number: number; readonly error: TaskError }

assert(parentPort !== null, 'this file is started as a worker')
const port = parentPort
let context: TaskContext | undefined

port.on('message', async (message: WorkerMessage) => {
  if ('context' in message) {
    context = message.context
    return
  }
  const { number, kind, input } = message
  let reply: TaskReply
  try {
    assert(context !== undefined, 'the context comes before the first task')
    reply = { number, result: await runTask(kind, input, context) }
  } catch (error) {
    reply = { number, error: encodeTaskError(error) }
  }
  port.postMessage(reply)
})
