import { availableParallelism } from 'node:os'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { threadsFor, writeSettingsOf } from './write-options.ts'

afterEach(() => vi.unstubAllEnvs())

describe('how it is written', () => {
  test('options win over the environment, which wins over what is usual', () => {
    vi.stubEnv('RESTIC_COMPRESSION', '')
    vi.stubEnv('RESTIC_PACK_SIZE', '')
    expect(writeSettingsOf({})).toEqual({ compression: 'auto', packBytes: 16 << 20, selfCheck: true })
    vi.stubEnv('RESTIC_COMPRESSION', 'max')
    vi.stubEnv('RESTIC_PACK_SIZE', '64')
    expect(writeSettingsOf({})).toEqual({ compression: 'max', packBytes: 64 << 20, selfCheck: true })
    expect(writeSettingsOf({ compression: 'off', packSize: 4 })).toEqual({
      compression: 'off',
      packBytes: 4 << 20,
      selfCheck: true,
    })
    vi.stubEnv('RESTIC_PACK_SIZE', '0')
    expect(writeSettingsOf({}).packBytes).toBe(16 << 20)
  })

  test.each([
    ['RESTIC_COMPRESSION', 'most'],
    ['RESTIC_PACK_SIZE', '3'],
    ['RESTIC_PACK_SIZE', '129'],
    ['RESTIC_PACK_SIZE', '16m'],
  ])('%s=%s is refused by name', (name, value) => {
    vi.stubEnv(name, value)
    expect(() => writeSettingsOf({})).toThrow(`${name}="${value}"`)
  })
})

test('so many files are read at once as there are threads, and there are never fewer than processors', () => {
  const processors = availableParallelism()
  vi.stubEnv('RESTIC_READ_CONCURRENCY', '')
  expect(threadsFor(undefined)).toBeUndefined()
  expect(threadsFor(1)).toBe(processors)
  expect(threadsFor(processors + 6)).toBe(processors + 6)
  vi.stubEnv('RESTIC_READ_CONCURRENCY', `${processors + 2}`)
  expect(threadsFor(undefined)).toBe(processors + 2)
  expect(threadsFor(processors + 1)).toBe(processors + 1)
  vi.stubEnv('RESTIC_READ_CONCURRENCY', '0')
  expect(() => threadsFor(undefined)).toThrow('RESTIC_READ_CONCURRENCY="0"')
})
