/** The examples that the package's documentation shows, run as programs. */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { newestRestic } from '@stillpoint/testbed'
import { expect, test } from 'vitest'
import { hasTool, scratch } from './testing/testbed.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../', import.meta.url))

async function example(name: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(process.execPath, [join(root, 'examples', `${name}.ts`), ...args])
  return stdout
}

test.skipIf(!hasTool('restic'))('a directory, a stream, and the upkeep [needs restic]', async () => {
  const home = await scratch()
  const [repository, password, source, target] = ['repository', 'password', 'source', 'target'].map((name) =>
    join(home, name),
  ) as [string, string, string, string]
  await writeFile(password, 'correct horse\n', { mode: 0o600 })
  await mkdir(join(source, 'below'), { recursive: true })
  await writeFile(join(source, 'below', 'text'), 'hello')
  await writeFile(join(source, 'left.tmp'), 'not this')

  expect(await example('directory', repository, password, source, target)).toMatch(/^saved 1 files, 5 bytes, as /)
  expect(await readFile(join(target, 'source', 'below', 'text'), 'utf8')).toBe('hello')
  expect(await example('stream', repository, password, 'printf', 'a dump')).toBe('a dump')
  await expect(example('stream', repository, password, 'false')).rejects.toThrow('nothing is saved')
  expect(await example('upkeep', repository, password)).toMatch(/2 snapshots, \d+ bytes read, 0 problems\n$/)

  const { stdout } = await run(newestRestic.command, [
    '-r',
    repository,
    '-p',
    password,
    '--no-cache',
    'check',
    '--read-data',
  ])
  expect(stdout).toContain('no errors were found')
})

test('what the README shows is in the examples', () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const shown = [...readme.matchAll(/```ts\n(?:\/\/ examples\/(\S+)\n)?([\s\S]*?)```/g)]
  expect(shown.length).toBeGreaterThanOrEqual(3)
  for (const [, file = '', code = ''] of shown) {
    const text = readFileSync(join(root, 'examples', file), 'utf8')
    for (const part of code.split('\n…\n')) expect(text).toContain(part.trim())
  }
})
