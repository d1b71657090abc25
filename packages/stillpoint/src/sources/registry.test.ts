import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Failure, isFailure } from '@stillpoint/core/kernel'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { openSource, sources } from './registry.ts'
import { testClock } from './sqlite/sqlite-workbench.ts'

const never = new AbortController().signal
let dir = ''
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'stillpoint-registry-'))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

const open = (kind: string, options: unknown) =>
  openSource(kind, options, { clock: testClock, baseDir: dir, scratchDir: dir, note: () => undefined }, never)

async function failure(kind: string, options: unknown): Promise<Failure> {
  const error = await open(kind, options).then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!isFailure(error)) throw new Error(`a Failure was expected, not ${String(error)}`)
  return error
}

describe('the registry of sources', () => {
  test.each([...sources])('each option of %s is described', (_, { optionsSchema }) => {
    const schema = z.toJSONSchema(optionsSchema, { io: 'input' })
    const fields = Object.entries(schema.properties ?? {})
    expect(fields.length).toBeGreaterThan(0)
    for (const [name, field] of fields)
      expect([name, typeof field === 'object' && field.description]).toEqual([name, expect.any(String)])
  })

  test('an unknown kind is refused with the kinds there are', async () => {
    const error = await failure(`${'x'.repeat(10_000)}`, {})
    expect(error.code).toBe('source_unknown')
    expect(error.hint).toContain('sqlite')
    expect(error.message.length).toBeLessThan(200)
  })

  test.each([
    ['sqlite', {}, 'path'],
    ['sqlite', { path: 'a.db', busyTimeoutMs: '5' }, 'busyTimeoutMs'],
    ['sqlite', { path: 'a.db', pth: 1 }, 'pth'],
    ['files', { path: '.', exclude: '*.tmp' }, 'exclude'],
    ['files', { path: '.', quiesceCommand: 'true' }, 'resumeCommand'],
    ['command', { capture: [] }, 'capture'],
    ['command', { capture: 'x', quiesce: 'y' }, 'resume'],
    ['command', 'capture', 'command'],
  ])('%s with %j names %s', async (kind, options, field) => {
    const error = await failure(kind, options)
    expect([error.code, error.message]).toEqual(['options_invalid', expect.stringContaining(field)])
  })

  test('a value that is refused is not shown', async () => {
    const error = await failure('sqlite', { path: 'a.db', busyTimeoutMs: 'hunter2' })
    expect(error.message).not.toContain('hunter2')
  })

  test('defaults are filled in, and the session opened', async () => {
    const session = await open('files', { path: '.' })
    expect(session.traits.hold).toBe('none')
    await session.close()
  })
})
