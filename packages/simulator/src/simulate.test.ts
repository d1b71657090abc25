/** The command itself, as people and CI run it. Vitest has one worker: the machine's other cores are free. */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { digestOf } from './world/report.ts'

const main = fileURLToPath(new URL('./simulate-main.ts', import.meta.url))

async function simulate(...args: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [main, ...args])
  return stdout.trim()
}

test('two thousand seeds: no violation', { timeout: 300_000 }, async () => {
  const text = await simulate('--seeds', '2000')
  console.log(text)
  expect(text).toMatch(/^2000 seeds, \d+ steps, \d{4,} cuts sealed, \d{3,} aborted, .* no violation, \d+ s$/)
})

describe('a seed is a run, to the last byte', () => {
  test.each([
    ['3', 'flow'],
    ['18', 'shells'],
    ['22', 'mixed'],
    ['29', 'barrier'],
  ])('seed %s (%s), in two processes', async (seed, shape) => {
    const here = await digestOf(Number(seed), shape)
    expect(here).toMatch(/^[0-9a-f]{64}$/)
    expect(await digestOf(Number(seed), shape)).toBe(here)
    expect(await simulate('--seed', seed, '--shape', shape, '--digest')).toBe(here)
    expect(await digestOf(Number(seed) + 1, shape)).not.toBe(here)
  })

  test('the worlds that ran before it do not matter', async () => {
    const alone = await digestOf(41, 'owned')
    for (const seed of [1, 2, 3]) await digestOf(seed)
    expect(await digestOf(41, 'owned')).toBe(alone)
  })
})

test('an interrupted run says what it has done', async () => {
  const child = spawn(process.execPath, [main, '--seeds', '1000000'], { stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  child.stdout.on('data', (bytes: Buffer) => {
    text += bytes.toString()
  })
  const closed = once(child, 'close')
  try {
    // Its first word of progress: something has been done by then.
    const [progress] = await once(child.stderr, 'data')
    expect(String(progress)).toMatch(/^[1-9]\d* of 1000000 seeds, /)
  } finally {
    child.kill('SIGINT')
  }
  const [code] = await closed
  expect(code).toBe(130)
  expect(text).toMatch(/^interrupted: [1-9]\d* of 1000000 seeds, .* no violation, \d+ s\n$/)
})
