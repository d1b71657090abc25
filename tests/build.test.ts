/** What is published works as it is installed: as JavaScript, below node_modules, without the checkout. */
import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { temporaryDirectory } from '@stillpoint/testbed'
import { expect, test } from 'vitest'

const run = promisify(execFile)
const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const packages = {
  '@stillpoint/core': 'core',
  '@stillpoint/repository': 'repository',
  '@stillpoint/sdk': 'sdk',
  stillpoint: 'stillpoint',
}

/** A directory in which the built packages are installed beside their dependencies. */
function install(dir: string): void {
  const modules = join(dir, 'node_modules')
  mkdirSync(join(modules, '@stillpoint'), { recursive: true })
  for (const name of readdirSync(join(root, 'node_modules'))) {
    if (name === 'stillpoint' || name === '@stillpoint' || name.startsWith('.')) continue
    symlinkSync(join(root, 'node_modules', name), join(modules, name))
  }
  for (const [name, folder] of Object.entries(packages)) {
    cpSync(join(root, 'packages', folder, 'dist'), join(modules, name), { recursive: true })
  }
}

test('the built command plays the demo', { timeout: 180_000 }, async () => {
  await run(process.execPath, [join(root, 'scripts/build.ts')], { cwd: root })
  const scratch = await temporaryDirectory('build')
  install(scratch.path)
  const command = join(scratch.path, 'node_modules/stillpoint/bin/stillpoint.js')
  const { stdout } = await run(process.execPath, [command, 'demo', '--exit', '--json'], { cwd: scratch.path })
  expect(JSON.parse(stdout)).toMatchObject({ passed: true, verdict: 'consistent' })
  expect((await run(process.execPath, [command, '--version'])).stdout.trim()).toMatch(/^\d+\.\d+\.\d+$/)
  await scratch.remove()
})
