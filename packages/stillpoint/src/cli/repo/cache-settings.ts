/**
 * Where the cache of a repository is, by restic's options and environment: `--no-cache`, `--cache-dir`, RESTIC_CACHE_DIR.
 *
 * Owns: the place, and when there is one. Does not own: what is kept.
 *
 * Repositories on servers are cached unless it is switched off; those in a directory only where a place for it is named,
 * since reading them is as fast as reading a cache. A place that is named may be restic's: it is left to restic which
 * caches in it are old. In ours those are removed that nobody opened for 30 days.
 */
import { homedir } from 'node:os'
import { isAbsolute, join, resolve } from 'node:path'
import type { CacheSettings } from '@stillpoint/repository'
import { Option } from 'commander'
import type { CommandHost } from '../session.ts'

export interface CacheOptions {
  /** False with `--no-cache`. */
  readonly cache?: boolean
  readonly cacheDir?: string
  readonly cleanupCache?: true
}

export const cacheOptions = (): readonly Option[] => [
  new Option('--cache-dir <directory>', 'keep a cache here; default: $RESTIC_CACHE_DIR, or the user’s for servers'),
  new Option('--no-cache', 'keep none'),
  new Option('--cleanup-cache', 'remove caches that nothing has opened for 30 days'),
]

export interface CacheWanted {
  readonly options: CacheOptions
  /** Of the repository. */
  readonly location: string
  readonly warn: (text: string) => void
}

/** Undefined: without a cache. */
export function cacheSettings(
  { cwd }: Pick<CommandHost, 'cwd'>,
  { options, location, warn }: CacheWanted,
): CacheSettings | undefined {
  if (options.cache === false) return undefined
  const onProblem = (failure: Error) => warn(`continuing without the cache: ${failure.message}`)
  const named = namedDirectory(options)
  const removeUnused = options.cleanupCache === true
  if (named !== undefined) return { directory: resolve(cwd, named), removeUnused, onProblem }
  if (!/^(rest|s3):/.test(location)) return undefined
  return { directory: ownDirectory(), removeUnused: true, onProblem }
}

function namedDirectory({ cacheDir }: CacheOptions): string | undefined {
  const { RESTIC_CACHE_DIR: fromEnvironment } = process.env
  return cacheDir ?? (fromEnvironment === '' ? undefined : fromEnvironment)
}

const ownDirectory = () => join(userCaches(), 'stillpoint')

/** Where caches are, whatever the repository. Undefined: without a cache. */
export function userCacheDirectory({ cwd }: Pick<CommandHost, 'cwd'>, options: CacheOptions): string | undefined {
  if (options.cache === false) return undefined
  const named = namedDirectory(options)
  return named === undefined ? ownDirectory() : resolve(cwd, named)
}

/** XDG Base Directory Specification; on macOS the place that its guidelines name. */
export function userCaches(): string {
  const { XDG_CACHE_HOME: base } = process.env
  // A relative path there is invalid by the specification, and is passed over.
  if (base !== undefined && isAbsolute(base)) return base
  return process.platform === 'darwin' ? join(homedir(), 'Library', 'Caches') : join(homedir(), '.cache')
}
