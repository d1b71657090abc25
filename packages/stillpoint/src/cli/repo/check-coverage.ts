/**
 * Where it is remembered which data of a repository was read when: with the cache, in a folder of its own.
 *
 * Owns: the place, and how coverage is told. Does not own: what is remembered.
 */
import { join, resolve } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import type { ReadCoverage } from '@stillpoint/repository'
import { bytesText } from '../quantities.ts'
import type { CommandHost } from '../session.ts'
import { type CacheOptions, userCaches } from './cache-settings.ts'

const folder = 'stillpoint-checks'
const dayMs = 24 * 3_600_000

/** Absolute path; undefined with `--no-cache`: then nothing is remembered. */
export function coveragePath({ cwd }: Pick<CommandHost, 'cwd'>, options: CacheOptions, id: string): string | undefined {
  if (options.cache === false) return undefined
  const { RESTIC_CACHE_DIR: fromEnvironment } = process.env
  const named = options.cacheDir ?? (fromEnvironment === '' ? undefined : fromEnvironment)
  return join(named === undefined ? userCaches() : resolve(cwd, named), folder, id)
}

export function budgetNeedsPlace(): Failure {
  return new Failure({
    code: 'usage',
    message: '--read-data-budget and --no-cache exclude each other: it is remembered with the cache what was read when',
  })
}

export function coverageJson(coverage: ReadCoverage): object {
  const { withinMs, packs, bytes, packsWithin, bytesWithin, packsNever, bytesNever, oldestMs } = coverage
  return {
    within_days: withinMs / dayMs,
    packs,
    bytes,
    packs_within: packsWithin,
    bytes_within: bytesWithin,
    packs_never: packsNever,
    bytes_never: bytesNever,
    oldest: oldestMs === undefined ? null : new Date(oldestMs).toISOString(),
  }
}

export function coverageLines(coverage: ReadCoverage): readonly string[] {
  const { withinMs, packs, bytes, packsWithin, bytesWithin, packsNever, bytesNever, oldestMs } = coverage
  const oldest = oldestMs === undefined ? [] : [`oldest read ${new Date(oldestMs).toISOString().slice(0, 19)}Z`]
  return [
    `data: ${packsWithin} of ${packs} packs, ${bytesText(bytesWithin)} of ${bytesText(bytes)} read within ${withinMs / dayMs} days; ${[
      ...oldest,
      packsNever === 0 ? 'all has been read' : `never read: ${packsNever} packs, ${bytesText(bytesNever)}`,
    ].join('; ')}`,
  ]
}
