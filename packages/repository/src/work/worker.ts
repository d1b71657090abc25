/** A thread of the pool: does one task after the other. Its messages are those of work-pool.ts. */
import { parentPort, workerData } from 'node:worker_threads'
import { assert } from '@stillpoint/core/kernel'
import { encodeTaskError, type TaskError } from './task-error.ts'
import { runTask, type TaskContext, type TaskInput, type TaskKind, type TaskResult } from './tasks.ts'

export interface TaskRequest {
  readonly number: number
  readonly kind: TaskKind
  readonly input: TaskInput<TaskKind>
}

export type TaskReply =
  | { readonly number: number; readonly result: TaskResult<TaskKind> }
  | { readonly number: number; readonly error: TaskError }

assert(parentPort !== null, 'this file is started as a worker')
const port = parentPort
const context: TaskContext = workerData

port.on('message', async ({ number, kind, input }: TaskRequest) => {
  let reply: TaskReply
  try {
    reply = { number, result: await runTask(kind, input, context) }
  } catch (error) {
    reply = { number, error: encodeTaskError(error) }
  }
  port.postMessage(reply)
})
