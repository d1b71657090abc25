/** Owns laying the built packages out as they are when they have been installed: below node_modules, as JavaScript. */
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const packages = {
  '@stillpoint/core': 'core',
  '@stillpoint/repository': 'repository',
  '@stillpoint/sdk': 'sdk',
  stillpoint: 'stillpoint',
}

/** Builds the packages and puts them into a directory, beside their dependencies. Returns the command's path. */
export function installBuilt(directory: string): string {
  const built = join(directory, 'built')
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'scripts/build.ts'), built], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`the build failed:\n${stdout}${stderr}`)
  const modules = join(directory, 'node_modules')
  mkdirSync(join(modules, '@stillpoint'), { recursive: true })
  for (const name of readdirSync(join(root, 'node_modules'))) {
    if (name === 'stillpoint' || name === '@stillpoint' || name.startsWith('.')) continue
    symlinkSync(join(root, 'node_modules', name), join(modules, name))
  }
  for (const [name, folder] of Object.entries(packages)) {
    cpSync(join(built, folder), join(modules, name), { recursive: true })
  }
  rmSync(built, { recursive: true })
  return join(modules, 'stillpoint', 'bin', 'stillpoint.js')
}
