/**
 * Owns how each engine is asked to do the same: every restic that is here, borg, and this repository's command,
 * each with its defaults and a cache of its own.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findTool, type Restic, restics } from '@stillpoint/testbed'
import type { Command } from './measured.ts'

export interface Places {
  /** Of this engine alone: caches, notes. */
  readonly home: string
  readonly repository: string
  readonly source: string
  readonly target: string
}

export interface Engine {
  /** Also of its directory. */
  readonly name: string
  /** What our figures are divided by: another program for the same format. */
  readonly isReference: boolean
  version(): string
  init(places: Places): Command
  /** @param round names the archive where the engine wants a name. */
  backup(places: Places, round: string): Command
  restore(places: Places): Command
  /** Reads and verifies all data. */
  check(places: Places): Command
  /** Where below `target` a restore puts what was in `source`. */
  restoredAt(places: Places): string
}

const password = 'benchmark'
const versionOf = (program: string, args: readonly string[]): string =>
  execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()

function resticEnv({ home, repository }: Places): Record<string, string> {
  mkdirSync(home, { recursive: true })
  const file = join(home, 'password')
  writeFileSync(file, password, { mode: 0o600 })
  return { RESTIC_REPOSITORY: repository, RESTIC_PASSWORD_FILE: file, XDG_CACHE_HOME: join(home, 'cache') }
}

function resticLike(program: string, prefix: readonly string[]): Omit<Engine, 'name' | 'isReference' | 'version'> {
  const command = (places: Places, ...args: string[]): Command => ({
    program,
    args: [...prefix, ...args],
    env: resticEnv(places),
    cwd: places.home,
  })
  return {
    init: (places) => command(places, 'init'),
    backup: (places) => command(places, 'backup', places.source),
    restore: (places) => command(places, 'restore', 'latest', '--target', places.target),
    check: (places) => command(places, 'check', '--read-data'),
    restoredAt: ({ target, source }) => join(target, source),
  }
}

const resticEngine = ({ name, command }: Restic): Engine => ({
  name: name.replace(' ', '-'),
  isReference: true,
  version: () => versionOf(command, ['version']).replace(/ compiled.*/, ''),
  ...resticLike(command, []),
})

/** @param command of the built packages: what users run, not the checkout's TypeScript. */
function stillpoint(command: string): Engine {
  return {
    name: 'stillpoint',
    isReference: false,
    version: () => `stillpoint ${versionOf(process.execPath, [command, '--version'])} on Node ${process.versions.node}`,
    ...resticLike(process.execPath, [command, 'repo']),
  }
}

function borgCommand(places: Places, ...args: string[]): Command {
  mkdirSync(places.target, { recursive: true })
  const env = {
    BORG_REPO: places.repository,
    BORG_PASSPHRASE: password,
    BORG_BASE_DIR: places.home,
    BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
  }
  return { program: 'borg', args, env, cwd: places.target }
}

const borg: Engine = {
  name: 'borg',
  isReference: false,
  version: () => versionOf('borg', ['--version']),
  init: (places) => borgCommand(places, 'init', '--encryption', 'repokey'),
  backup: (places, round) => borgCommand(places, 'create', `::${round}`, places.source),
  restore: (places) => borgCommand(places, 'extract', '::first'),
  check: (places) => borgCommand(places, 'check', '--verify-data'),
  restoredAt: ({ target, source }) => join(target, source),
}

/** An engine that may be chosen: what it needs, and how to have it. */
export interface EngineChoice {
  readonly name: string
  readonly isHere: boolean
  /** Of Debian's packages. */
  readonly neededPackage?: string
  /** @param installed gives the path of the built command, where it is needed. */
  engine(installed: () => string): Engine
}

export const engineChoices: readonly EngineChoice[] = [
  ...restics.map((restic) => ({
    name: resticEngine(restic).name,
    isHere: restic.isHere,
    neededPackage: 'restic',
    engine: () => resticEngine(restic),
  })),
  { name: 'borg', isHere: findTool('borg') !== undefined, neededPackage: 'borgbackup', engine: () => borg },
  { name: 'stillpoint', isHere: true, engine: (installed) => stillpoint(installed()) },
]
