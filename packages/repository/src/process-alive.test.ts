import { spawn, spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { isProcessAlive } from './process-alive.ts'

test('a process that runs is alive, one that has ended is not', () => {
  expect(isProcessAlive(process.pid)).toBe(true)
  expect(isProcessAlive(spawnSync('true').pid)).toBe(false)
})

test.skipIf(process.getuid?.() !== 0)('one that we may not signal is alive [needs root]', () => {
  const [theirs, ours] = [65_534, 65_533]
  const { pid = 0 } = spawn('sleep', ['60'], { uid: theirs, stdio: 'ignore' })
  process.seteuid?.(ours)
  try {
    expect(() => process.kill(pid, 0)).toThrow('EPERM')
    expect(isProcessAlive(pid)).toBe(true)
  } finally {
    process.seteuid?.(0)
    process.kill(pid, 'SIGKILL')
  }
})
