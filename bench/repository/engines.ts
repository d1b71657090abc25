/**
 * Owns how each engine is asked to do the same: restic and borg from Debian's packages, and this repository's command,
 * each with its defaults and a cache of its own.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from './measured.ts'

export interface Places {
  /** Of this engine alone: caches, notes. */
  readonly home: string
  readonly repository: string
  readonly source: string
  readonly target: string
}

export interface Engine {
  readonly name: 'restic' | 'borg' | 'stillpoint'
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

function resticLike(program: string, prefix: readonly string[]): Omit<Engine, 'name' | 'version'> {
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

const restic: Engine = {
  name: 'restic',
  version: () => versionOf('restic', ['version']).replace(/ compiled.*/, ''),
  ...resticLike('restic', []),
}

/** @param command of the built packages: what users run, not the checkout's TypeScript. */
function stillpoint(command: string): Engine {
  return {
    name: 'stillpoint',
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
  version: () => versionOf('borg', ['--version']),
  init: (places) => borgCommand(places, 'init', '--encryption', 'repokey'),
  backup: (places, round) => borgCommand(places, 'create', `::${round}`, places.source),
  restore: (places) => borgCommand(places, 'extract', '::first'),
  check: (places) => borgCommand(places, 'check', '--verify-data'),
  restoredAt: ({ target, source }) => join(target, source),
}

export const engineNames: readonly Engine['name'][] = ['restic', 'borg', 'stillpoint']

/** @param installed gives the path of the built command, where it is needed. */
export function engineNamed(name: Engine['name'], installed: () => string): Engine {
  switch (name) {
    case 'restic':
      return restic
    case 'borg':
      return borg
    case 'stillpoint':
      return stillpoint(installed())
  }
}
