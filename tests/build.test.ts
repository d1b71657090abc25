/** What is published works as it is installed: as JavaScript, below node_modules, without the checkout. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { temporaryDirectory } from '@stillpoint/testbed'
import { expect, test } from 'vitest'
import { installBuilt } from '../scripts/install-built.ts'

const run = promisify(execFile)

test('the built command plays the demo', { timeout: 180_000 }, async () => {
  const scratch = await temporaryDirectory('build')
  const command = installBuilt(scratch.path)
  const { stdout } = await run(process.execPath, [command, 'demo', '--exit', '--json'], { cwd: scratch.path })
  expect(JSON.parse(stdout)).toMatchObject({ passed: true, verdict: 'consistent' })
  expect((await run(process.execPath, [command, '--version'])).stdout.trim()).toMatch(/^\d+\.\d+\.\d+$/)
  await scratch.remove()
})
