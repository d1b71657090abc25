/** The benchmark still runs, and what the engines restore in it is what they saved. Its figures are not judged here. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { hasTool, restics, temporaryDirectory } from '@stillpoint/testbed'
import { expect, test } from 'vitest'

const run = promisify(execFile)
const main = fileURLToPath(new URL('../bench/repository/main.ts', import.meta.url))
const bench = (...args: string[]) => run(process.execPath, [main, ...args])
const hasTools = restics.every(({ isHere }) => isHere) && ['borg', 'time'].every(hasTool)

test.skipIf(!hasTools)('a small data set [needs restic, restic 0.18, borg, time]', { timeout: 180_000 }, async () => {
  const scratch = await temporaryDirectory('bench')
  const { stdout } = await bench('--scale', '0.01', '--rounds', '1', '--data', 'database-pages', '--dir', scratch.path)
  for (const { name } of restics) expect(stdout).toContain(`| database-pages | restore | ${name.replace(' ', '-')} |`)
  expect(stdout).toMatch(/\| database-pages \| first backup \| \d/)
  expect(stdout).toMatch(/\| database-pages \| changed \| borg \| \d/)
  expect(stdout).toMatch(/\| database-pages \| \d.*ms\/MiB/)
  await scratch.remove()
})

test('wrong usage is said', async () => {
  for (const [args, said] of [
    [['--data', 'films'], 'there are incompressible'],
    [['--rounds', '0'], 'a number above 0'],
    [['--nothing'], "Unknown option '--nothing'"],
  ] as const) {
    await expect(bench(...args)).rejects.toMatchObject({ code: 2, stderr: expect.stringContaining(said) })
  }
})
