/** One repository that both the command and the real restic work on, in a directory of its own. For tests. */
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { initRepository, openLocalStore } from '@stillpoint/repository'
import { newestRestic, type Restic } from '@stillpoint/testbed'
import { systemClock, systemEntropy } from '../../system-env.ts'
import { type Ended, run } from '../workbench.ts'

export const hasRestic = newestRestic.isHere
const runFile = promisify(execFile)
const scryptCost = { n: 1024, r: 8, p: 1 }

export interface RepoBench {
  readonly directory: string
  readonly source: string
  /** `stillpoint repo …`, in the directory, with the repository in the environment. */
  ours(...args: readonly string[]): Promise<Ended>
  /** The same, which has to succeed; its stdout. */
  ok(...args: readonly string[]): Promise<string>
  /** Lines of JSON. */
  json(...args: readonly string[]): Promise<readonly unknown[]>
  /** The real restic's stdout. */
  restic(...args: readonly string[]): Promise<string>
  resticJson(...args: readonly string[]): Promise<readonly unknown[]>
  makeRepository(name: string): Promise<string>
  remove(): Promise<void>
}

export const linesOf = (text: string): readonly unknown[] =>
  text
    .split('\n')
    .filter((line) => line.startsWith('{') || line.startsWith('['))
    .map((line): unknown => JSON.parse(line))

export interface BenchOptions {
  /** Which restic is beside us; the newest, if none is named. */
  readonly restic?: Restic
}

/** Sets the environment of this process: one bench at a time. */
export async function makeBench({ restic: program = newestRestic }: BenchOptions = {}): Promise<RepoBench> {
  const directory = await mkdtemp(join(tmpdir(), 'stillpoint-repo-'))
  const passwordFile = join(directory, 'password')
  await writeFile(passwordFile, 'secret\n', { mode: 0o600 })
  async function makeRepository(name: string): Promise<string> {
    const store = openLocalStore(join(directory, name))
    const world = { clock: systemClock, entropy: systemEntropy }
    await initRepository({ store, password: 'secret', ...world, scryptCost })
    return join(directory, name)
  }
  process.env['RESTIC_REPOSITORY'] = await makeRepository('repository')
  process.env['RESTIC_PASSWORD_FILE'] = passwordFile
  process.env['RESTIC_CACHE_DIR'] = join(directory, 'cache')
  process.env['TZ'] = 'UTC'
  const source = join(directory, 'source')
  await mkdir(join(source, 'below', 'deeper'), { recursive: true })
  await mkdir(join(source, 'empty'), { mode: 0o1777 })
  await writeFile(join(source, 'a.txt'), 'hello')
  await writeFile(join(source, 'below', 'b.log'), 'log '.repeat(2000), { mode: 0o4755 })
  await writeFile(join(source, 'below', 'deeper', 'c.txt'), 'deep')
  await symlink('../a.txt', join(source, 'below', 'link'))
  const ours = (...args: readonly string[]) => run(directory, ['repo', ...args])
  async function ok(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await ours(...args)
    if (code !== 0) throw new Error(`${args.join(' ')} ended with ${code}: ${stderr}`)
    return stdout
  }
  async function restic(...args: readonly string[]): Promise<string> {
    return (await runFile(program.command, args, { cwd: directory, maxBuffer: 1 << 26 })).stdout
  }
  return {
    directory,
    source,
    ours,
    ok,
    restic,
    makeRepository,
    json: async (...args) => linesOf(await ok(...args, '--json')),
    resticJson: async (...args) => linesOf(await restic(...args, '--json')),
    remove: () => rm(directory, { recursive: true, force: true }),
  }
}
