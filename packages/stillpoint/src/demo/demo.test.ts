/** The main job, as a user runs it; and what stock restic says of the repository that it leaves. */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { hasTool, newestRestic, temporaryDirectory } from '@stillpoint/testbed'
import { describe, expect, test } from 'vitest'
import { demoResultSchema } from './demo-result.ts'

const run = promisify(execFile)
const command = fileURLToPath(new URL('../../bin/stillpoint.js', import.meta.url))

async function play(dir: string) {
  const { stdout } = await run(process.execPath, [command, 'demo', '--exit', '--json', '--dir', dir], {
    timeout: 120_000,
  })
  return demoResultSchema.parse(JSON.parse(stdout))
}

test('the demo proves that no money is lost', { timeout: 120_000 }, async () => {
  const scratch = await temporaryDirectory('demo')
  const result = await play(join(scratch.path, 'bank'))
  expect(result).toMatchObject({ passed: true, verdict: 'consistent', totalBefore: 10_000_000 })
  expect(result.totalRestored).toBe(result.totalBefore)
  expect(result.totalAfter).toBe(result.totalBefore)
  await scratch.remove()
})

test('a directory that has something in it is refused, and left as it is', async () => {
  const scratch = await temporaryDirectory('demo')
  await mkdir(join(scratch.path, 'mine'))
  const failure = await run(process.execPath, [command, 'demo', '--exit', '--dir', scratch.path]).catch(
    (error) => error,
  )
  expect(failure).toMatchObject({ code: 1, stderr: expect.stringContaining('is not empty') })
  expect(await readdir(scratch.path)).toEqual(['mine'])
  await scratch.remove()
})

describe.skipIf(!hasTool('restic'))('the repository of the bank, read by restic [needs restic]', () => {
  test('it checks, lists and restores what Stillpoint restores, byte for byte', { timeout: 180_000 }, async () => {
    const scratch = await temporaryDirectory('demo')
    const dir = join(scratch.path, 'bank')
    await play(dir)
    const target = join(scratch.path, 'target')
    const repository = ['-r', join(dir, 'snapshots'), '--password-file', join(dir, 'repository-password'), '--no-cache']
    const restic = async (...args: string[]) => (await run(newestRestic.command, [...repository, ...args])).stdout
    expect(await restic('check', '--read-data')).toContain('no errors were found')
    const listed = await restic('ls', 'latest')
    for (const path of [
      '/stillpoint.json',
      '/certificate.json',
      '/participants/north/state',
      '/participants/west-ledger',
    ]) {
      expect(listed).toContain(path)
    }
    await restic('restore', 'latest', '--target', target)
    const other = join(scratch.path, 'other')
    await mkdir(join(other, 'ledgers'), { recursive: true })
    const yaml = (await readFile(join(dir, 'stillpoint.yaml'), 'utf8')).replaceAll(
      './snapshots',
      join(dir, 'snapshots'),
    )
    await writeFile(
      join(other, 'stillpoint.yaml'),
      yaml.replaceAll('./repository-password', join(dir, 'repository-password')),
    )
    const ledgers = ['north', 'south', 'east', 'west'].flatMap((name) => ['--participant', `${name}-ledger`])
    const config = ['--config', join(dir, 'stillpoint.yaml'), '--to', join(other, 'stillpoint.yaml')]
    const restored = run(process.execPath, [command, 'restore', 'latest', ...config, ...ledgers, '--json'])
    // 3: partial, since the processes themselves are left out; the answer names what that breaks.
    await expect(restored).rejects.toMatchObject({ code: 3, stdout: expect.stringContaining('broken link') })
    for (const name of ['north', 'south', 'east', 'west']) {
      const ours = readFileSync(join(other, 'ledgers', `${name}.sqlite`))
      const theirs = readFileSync(join(target, 'participants', `${name}-ledger`, 'database.sqlite'))
      expect(ours.equals(theirs), name).toBe(true)
    }
    await scratch.remove()
  })
})
