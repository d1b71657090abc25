import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { readSecret, type SecretOptions, secretBytesMax } from './secret.ts'

let dir = ''
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'stillpoint-secret-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const never = new AbortController().signal
const read = (options: SecretOptions, note?: (text: string) => void) => readSecret(options, dir, never, note)

async function failure(options: SecretOptions): Promise<Failure> {
  const error = await read(options).then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof Failure)) throw new Error(`a Failure was expected, not ${String(error)}`)
  return error
}

async function put(content: string | Uint8Array, mode = 0o600): Promise<string> {
  await writeFile(join(dir, 'pw'), content)
  await chmod(join(dir, 'pw'), mode)
  return 'pw'
}

describe('readSecret', () => {
  test('nothing given is no secret', async () => {
    expect(await read({})).toBeUndefined()
  })

  test('both given is refused', async () => {
    expect((await failure({ passwordFile: 'a', passwordCommand: 'b' })).code).toBe('options_invalid')
  })

  test.each([
    ['s3cret\n', 's3cret'],
    ['s3cret\r\n', 's3cret'],
    ['s3cret\n\n', 's3cret\n'],
    [' s3cret ', ' s3cret '],
  ])('a file loses one newline and nothing else: %j', async (content, secret) => {
    expect(await read({ passwordFile: await put(content) })).toBe(secret)
    expect(await read({ passwordCommand: 'cat pw' })).toBe(secret)
  })

  test('a file that others can read is used, with a note; one that they can write is refused', async () => {
    const notes: string[] = []
    expect(await read({ passwordFile: await put('x1y2', 0o644) }, (text) => notes.push(text))).toBe('x1y2')
    expect(notes).toHaveLength(1)
    expect(notes[0]).toContain(join(dir, 'pw'))
    expect(notes[0]).not.toContain('x1y2')
    const refused = await failure({ passwordFile: await put('x1y2', 0o602) })
    expect(refused.code).toBe('secret_file_too_open')
    expect(refused.message).toContain(join(dir, 'pw'))
  })

  test.each([
    ['', 'secret_empty'],
    ['\n', 'secret_empty'],
    ['a\0b', 'secret_not_text'],
    [new Uint8Array([0xff, 0xfe]), 'secret_not_text'],
    ['x'.repeat(secretBytesMax + 1), 'secret_too_large'],
  ])('a file with %j is %s', async (content, code) => {
    const file = await failure({ passwordFile: await put(content) })
    expect([file.code, file.message.includes(join(dir, 'pw'))]).toEqual([code, true])
    expect((await failure({ passwordCommand: ['cat', 'pw'] })).code).toBe(code)
  })

  test('an absent file and a directory are named', async () => {
    for (const passwordFile of ['absent', '.']) {
      const error = await failure({ passwordFile })
      expect(error.code).toBe('secret_file_unreadable')
      expect(error.message).toContain(dir)
    }
  })

  test('a command is shown with its exit code and stderr, never with its output', async () => {
    const error = await failure({ passwordCommand: 'echo hunter2; echo vault is sealed >&2; exit 3' })
    expect(error.code).toBe('secret_command_failed')
    expect(error.message).toContain('exit code 3: vault is sealed')
    const program = await failure({ passwordCommand: ['/does/not/exist', 'hunter2'] })
    expect(program.code).toBe('secret_command_failed')
    expect(program.message).not.toContain('hunter2')
  })

  test('an abort ends the command and what it started', async () => {
    const controller = new AbortController()
    const reading = readSecret({ passwordCommand: '(sleep 30; echo late > late); echo x' }, dir, controller.signal)
    setTimeout(() => controller.abort(new Error('stop')), 50)
    await expect(reading).rejects.toThrow('stop')
  })
})
