/** Finds external programs: on the PATH, and where Debian puts PostgreSQL's server programs, newest version first. */
import { accessSync, constants, readdirSync, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const postgresRoot = '/usr/lib/postgresql'

/** Absolute path of a program, or undefined. PostgreSQL's own programs come from one version: the newest. */
export function findTool(name: string): string | undefined {
  const onPath = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '')
  for (const folder of [...onPath, '/usr/local/bin', '/usr/bin', '/usr/sbin', ...postgresFolders()]) {
    const path = join(folder, name)
    if (isProgram(path)) return path
  }
  return undefined
}

export function hasTool(name: string): boolean {
  return findTool(name) !== undefined
}

/** The folder with `initdb` and `postgres` of one version, or undefined. */
export function postgresFolder(): string | undefined {
  const folders = [...postgresFolders(), ...(process.env['PATH'] ?? '').split(delimiter)]
  return folders.find((folder) => isProgram(join(folder, 'initdb')) && isProgram(join(folder, 'postgres')))
}

function postgresFolders(): string[] {
  let versions: string[]
  try {
    versions = readdirSync(postgresRoot)
  } catch {
    return [] // not Debian, or not installed: the PATH is all there is
  }
  const numbered = versions.filter((version) => /^\d+$/.test(version))
  return numbered.sort((a, b) => Number(b) - Number(a)).map((version) => join(postgresRoot, version, 'bin'))
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false // not there, or not ours to run: either way it is no program for us
  }
}
