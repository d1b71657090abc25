/** A worker for tests: does tasks as worker.ts does, but dies, throws or takes its time where a blob's id says so. */
import { parentPort } from 'node:worker_threads'
import type { WorkerMessage } from '../work/worker.ts'

const port = parentPort
if (port === null) throw new Error('this file is started as a worker')

port.on('message', (message: WorkerMessage) => {
  if ('context' in message) return
  const { number, input } = message
  const word = 'blobs' in input ? input.blobs[0]?.id : undefined
  if (word === 'exit') process.exit(3)
  if (word === 'throw') throw new Error('thrown outside of any task')
  if (word === 'exhaust') {
    const kept: unknown[] = []
    for (;;) kept.push(new Array(1e6).fill({}))
  }
  const answer = () => port.postMessage({ number, result: [{ kind: 'damaged', reason: `did ${word}` }] })
  if (word === 'slow') setTimeout(answer, 100)
  else answer()
})
