/**
 * The nightly script that Stillpoint replaces: the same dumps, taken one after the other, without a cut.
 *
 *   node examples/shop/naive.ts [--rounds 3]
 *
 * starts servers and load, dumps, restores into scratch targets, and checks: pg_dump, pg_dump, the RDB file, cp -a.
 * Each dump is consistent in itself; together they show a shop that never was. Exits 0 when every round broke the
 * invariants, as it must under this load, and 1 when one held.
 */
import { execFile } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs, promisify } from 'node:util'
import { findTool } from '@stillpoint/testbed'
import { checkShop, type ShopReport } from './invariants.ts'
import { startLoad } from './load-process.ts'
import { type ShopServers, startTemporaryShop } from './servers.ts'
import { readShop } from './state.ts'
import { connectRedis, type DatabaseTarget, passwordOf, type RedisTarget, type ShopTargets } from './targets.ts'

const run = promisify(execFile)

function tool(name: string): string {
  const path = findTool(name)
  if (path === undefined) throw new Error(`${name} is missing: install the package postgresql-client`)
  return path
}

async function runPostgres(program: string, target: DatabaseTarget, args: readonly string[]): Promise<void> {
  const password = await passwordOf(target)
  const { host, port, user } = target
  await run(tool(program), ['--host', host, '--port', String(port), '--username', user, '--no-password', ...args], {
    env: { ...process.env, ...(password === undefined ? {} : { PGPASSWORD: password }) },
  })
}

/** Asks for an RDB file, and copies it when the server has written it. The server must be on this machine. */
async function dumpRedis(target: RedisTarget, file: string): Promise<void> {
  const redis = await connectRedis(target)
  try {
    await redis.bgsave()
    for (;;) {
      const persistence = await redis.info('persistence')
      if (persistence.includes('rdb_bgsave_in_progress:0')) {
        if (!persistence.includes('rdb_last_bgsave_status:ok')) throw new Error('Redis: BGSAVE failed')
        break
      }
      await sleep(5)
    }
    const settings = await redis.config('GET', 'dir', 'dbfilename')
    const entries = new Map<unknown, unknown>()
    if (Array.isArray(settings)) for (let i = 0; i < settings.length; i += 2) entries.set(settings[i], settings[i + 1])
    await copyFile(join(String(entries.get('dir')), String(entries.get('dbfilename'))), file)
  } finally {
    redis.disconnect()
  }
}

async function copyDirectory(from: string, to: string): Promise<void> {
  try {
    await run('cp', ['-a', '--', `${from}/.`, to])
  } catch (error) {
    // It complains of files that went while it copied, and has copied the others: such scripts go on, and so do we.
    const vanished = error instanceof Error && 'stderr' in error && String(error.stderr).includes('cannot ')
    if (!vanished) throw error
  }
}

/** The four dumps, in the order of the night. */
async function dump(targets: ShopTargets, directory: string): Promise<void> {
  for (const name of ['orders', 'payments'] as const) {
    const target = targets[name]
    await runPostgres('pg_dump', target, ['--format=custom', `--file=${join(directory, name)}`, target.database])
  }
  await mkdir(join(directory, 'redis'))
  await dumpRedis(targets.counters, join(directory, 'redis', 'dump.rdb'))
  await mkdir(join(directory, 'invoices'))
  await copyDirectory(targets.invoices, join(directory, 'invoices'))
}

async function restoreInto(targets: ShopTargets, directory: string): Promise<void> {
  for (const name of ['orders', 'payments'] as const) {
    const target = targets[name]
    const args = ['--single-transaction', '--exit-on-error', '--dbname', target.database, join(directory, name)]
    await runPostgres('pg_restore', target, args)
  }
  await copyDirectory(join(directory, 'invoices'), targets.invoices)
}

/** Dumps the shop as it runs, restores the dumps into fresh scratch targets, and checks them. */
export async function checkNaiveDumps(servers: ShopServers, name: string): Promise<ShopReport & { dumpMs: number }> {
  const directory = await mkdtemp(join(servers.directory, 'naive-'))
  try {
    const startedMs = performance.now()
    await dump(servers.targets, directory)
    const dumpMs = Math.round(performance.now() - startedMs)
    const scratch = await servers.scratch(name, { redisDir: join(directory, 'redis') })
    await restoreInto(scratch.targets, directory)
    return { dumpMs, ...checkShop(await readShop(scratch.targets)) }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '3' } } })
  if (!/^[1-9]\d{0,2}$/.test(values.rounds)) throw new Error('--rounds must be a whole number from 1 to 999')
  const rounds = Number(values.rounds)
  const servers = await startTemporaryShop()
  try {
    const load = startLoad(servers.shopFile)
    await load.ready()
    const reports: ShopReport[] = []
    for (let round = 1; round <= rounds; round++) reports.push(await checkNaiveDumps(servers, `naive${round}`))
    const { placed, amended, cancelled } = await load.stop()
    const broken = reports.filter((report) => !report.held).length
    process.stdout.write(`${JSON.stringify({ rounds, broken, placed, amended, cancelled, reports }, null, 2)}\n`)
    return broken === rounds ? 0 : 1
  } finally {
    await servers.stop()
  }
}

if (import.meta.main) {
  main().then(
    (code) => {
      process.exitCode = code
    },
    (error: unknown) => {
      process.stderr.write(`naive: ${error instanceof Error ? error.message : String(error)}\n`)
      process.exitCode = 2
    },
  )
}
