/** `stillpoint repo cache`: which caches there are, ours and restic's, and removing those that nobody opens any more. */
import { Failure } from '@stillpoint/core/kernel'
import type { KeptCache } from '@stillpoint/repository'
import { type Command, Option } from 'commander'
import { bytesText, countText } from '../quantities.ts'
import type { CommandSession, RunCommand } from '../session.ts'
import { tableLines } from '../table.ts'
import { count } from './arguments.ts'
import { userCacheDirectory } from './cache-settings.ts'
import { examples, type RepositoryOptions, repoCommand, runRepo, succeeded } from './repository-access.ts'

interface CacheFlags extends RepositoryOptions {
  readonly cleanup?: true
  /** Days. */
  readonly maxAge: number
  /** False with `--no-size`. */
  readonly size?: boolean
}

const dayMs = 86_400_000

export function repoCacheCommand(run: RunCommand): Command {
  const text = 'Lists the caches of repositories, or removes old ones. It needs no repository.'
  const command = repoCommand('cache', 'list caches, remove old ones', text)
    .addOption(new Option('--cleanup', 'remove those that nothing has opened for long'))
    .addOption(new Option('--max-age <days>', 'which is longer than this').argParser(count).default(30))
    .addOption(new Option('--no-size', 'do not measure them'))
    .action((options: CacheFlags) =>
      runRepo(run, { isListing: true })(options, async (session) => {
        const directory = userCacheDirectory(session.host, options)
        if (directory === undefined) throw new Failure({ code: 'usage', message: 'with --no-cache there is no cache' })
        const { listCaches } = await import('@stillpoint/repository')
        const found = { directory, caches: await listCaches(directory), maxAgeMs: options.maxAge * dayMs }
        const isCleanup = options.cleanup === true || options.cleanupCache === true
        await (isCleanup ? cleanUp(session, found) : list(session, found, options))
        return succeeded
      }),
    )
  return examples(command, [{ line: 'stillpoint repo cache --cleanup', what: 'what was not used for 30 days' }])
}

interface Found {
  readonly directory: string
  readonly caches: readonly KeptCache[]
  readonly maxAgeMs: number
}

async function list({ host, output }: CommandSession, found: Found, { size }: CacheFlags): Promise<void> {
  const { cacheBytes } = await import('@stillpoint/repository')
  const { directory, caches, maxAgeMs } = found
  const rows = []
  for (const cache of caches) {
    host.signal.throwIfAborted()
    const ageMs = host.clock.wallMs() - cache.openedMs
    rows.push({
      id: cache.id,
      last_used: new Date(cache.openedMs).toISOString(),
      days: Math.max(0, Math.floor(ageMs / dayMs)),
      old: ageMs > maxAgeMs,
      ...(size === false ? {} : { bytes: await cacheBytes(cache) }),
    })
  }
  output.result({ message_type: 'caches', directory, caches: rows.map(({ days: _, ...row }) => row) })
  if (rows.length === 0) {
    output.lines([`no cache dirs found, basedir is ${directory}`])
    return
  }
  const titles = ['Repo ID', 'Last Used', 'Old', ...(size === false ? [] : ['Size'])]
  const columns = titles.map((title) => ({ title, align: title === 'Size' ? 'right' : 'left' }) as const)
  const cells = rows.map(({ id, days, old, bytes = 0 }) => [
    id.slice(0, 10),
    `${countText(days, 'day')} ago`,
    old ? 'yes' : '',
    bytesText(bytes),
  ])
  output.lines([
    ...tableLines(columns, cells, { width: output.terminal.stdout.columns() }),
    `${rows.length} cache dirs in ${directory}`,
  ])
}

async function cleanUp({ host, output }: CommandSession, { directory, caches, maxAgeMs }: Found): Promise<void> {
  const { removeCache } = await import('@stillpoint/repository')
  const old = caches.filter(({ openedMs }) => host.clock.wallMs() - openedMs > maxAgeMs)
  for (const cache of old) {
    host.signal.throwIfAborted()
    await removeCache(cache)
  }
  output.result({ message_type: 'caches_removed', directory, removed: old.map(({ id }) => id) })
  const removed = `removed ${countText(old.length, 'old cache')} from ${directory}`
  output.message(old.length === 0 ? 'no old cache dirs found' : removed)
}
