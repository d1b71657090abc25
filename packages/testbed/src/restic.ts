/**
 * Owns which versions of the real restic there are to test against: this system's, and that of Debian 13, which
 * `npm test` brings where the system's is older (`scripts/newer-restic.ts`).
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { findTool } from './tools.ts'

export interface Restic {
  /** For the names of suites: `… [needs restic 0.18]`. */
  readonly name: string
  /** Path of the program; empty where it is not here. */
  readonly command: string
  readonly isHere: boolean
}

/** Where the newer one is put: a folder as its package has it. */
export const newerResticFolder = fileURLToPath(new URL('../../../node_modules/.cache/restic-0.18', import.meta.url))
export const newerResticName = 'restic 0.18'

/** The oldest first. Where the system's is as new as the other, only that one. */
export const restics: readonly Restic[] = findRestics()

/** The newest that is here; where there is none, one that is not. */
export const newestRestic: Restic = restics.findLast(({ isHere }) => isHere) ?? known('restic', '')

function findRestics(): readonly Restic[] {
  const ofSystem = findTool('restic') ?? ''
  const newer = `${newerResticFolder}/usr/bin/restic`
  // Nobody is asked for a version while the answer is known: this is loaded by most test files.
  if (existsSync(newer)) return [known('restic', ofSystem), known(newerResticName, newer)]
  if (ofSystem !== '' && isAtLeast(versionOf(ofSystem), 0, 18)) return [known(newerResticName, ofSystem)]
  return [known('restic', ofSystem), known(newerResticName, '')]
}

function known(name: string, command: string): Restic {
  return { name, command, isHere: command !== '' }
}

/** Such as `0.18.0`; empty where it does not say. */
function versionOf(command: string): string {
  const told = spawnSync(command, ['version'], { encoding: 'utf8' }).stdout
  return /^restic (\d+\.\d+\.\d+)/.exec(told)?.[1] ?? ''
}

/** Whether a version such as `0.18.0` is this or later. */
function isAtLeast(version: string, major: number, minor: number): boolean {
  const [ownMajor = Number.NaN, ownMinor = Number.NaN] = version.split('.').map(Number)
  return ownMajor > major || (ownMajor === major && ownMinor >= minor)
}
