/** Threads that are ended while they load native code must not end the process. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { closeGate, createLoadGate, type LoadGate } from './load-gate.ts'

const program = fileURLToPath(new URL('../testing/native-process.ts', import.meta.url))
const startThread = (loadGate: LoadGate | undefined) =>
  new Worker(new URL('../testing/native-thread.ts', import.meta.url), { workerData: { loadGate } })

async function ended(microseconds: number): Promise<string> {
  const args = ['--disable-warning=ExperimentalWarning', program, `${microseconds}`]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let told = ''
  child.stderr.on('data', (piece: Buffer) => {
    told += piece.toString()
  })
  return new Promise((resolve) => child.on('close', (code, signal) => resolve(`${code} ${signal} ${told}`)))
}

test('a process may end at any moment of it', async () => {
  for (let turn = 0; turn < 40; turn += 1) expect(await ended(40_000 + turn * 3000)).toBe('0 null ')
})

test('a thread that is ended at any moment of it ends alone', async () => {
  for (let turn = 0; turn < 40; turn += 1) {
    const loadGate = createLoadGate()
    const worker = startThread(loadGate)
    await new Promise((resolve) => setTimeout(resolve, 30 + turn))
    if (loadGate !== undefined) closeGate(loadGate)
    await worker.terminate()
  }
})

test('a thread loads where its gate is open, and only there', async () => {
  const closed = createLoadGate()
  if (closed !== undefined) closeGate(closed)
  const gates = [
    [createLoadGate(), true],
    [closed, false],
    [undefined, false],
  ] as const
  for (const [loadGate, has] of gates) {
    const worker = startThread(loadGate)
    expect(await new Promise((resolve) => worker.once('message', resolve))).toEqual([has, has])
    if (loadGate !== undefined) closeGate(loadGate)
    await worker.terminate()
  }
})
