/** A real vault on a free port, with users, and what stock restic and our client say to it. For tests. */
import { spawn } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { initRepository, openRestStore, type RestStoreOptions } from '@stillpoint/repository'
import { newestRestic, type Restic, type TemporaryDirectory, temporaryDirectory } from '@stillpoint/testbed'
import { systemClock, systemEntropy } from '../system-env.ts'
import { createToken, hashPassword } from './authentication.ts'
import { type StartedVault, startVault, type VaultOptions } from './start-vault.ts'
import { usersFileName } from './user-names.ts'
import { changeUsersFile, type UserSecret } from './users-file.ts'
import type { VaultLogEntry } from './vault-app.ts'

export const repositoryPassword = 'of the repository'
export const userPassword = 'a user: with a colon'

export interface VaultBench extends AsyncDisposable {
  readonly directory: string
  readonly root: string
  readonly log: VaultLogEntry[]
  readonly vault: () => StartedVault
  url(path: string): string
  /** Starts it again, on another port. */
  restart(options?: Partial<VaultOptions>): Promise<void>
  /** A file of credentials for our client. */
  credentials(user: string, secret?: string): Promise<string>
  store(path: string, options?: Partial<RestStoreOptions>): ReturnType<typeof openRestStore>
  /** With a password that is tried in a moment, where restic's own would take half a second for each command. */
  makeRepository(path: string): Promise<void>
  /** Stock restic; answers its output and exit code. */
  restic(path: string, args: readonly string[], options?: ResticOptions): Promise<ResticEnd>
}

export interface ResticOptions {
  readonly user?: string
  readonly secret?: string
  readonly cacert?: string
  /** Interrupts restic as soon as stderr matches: it would go on trying, 0.14 for a minute and 0.18 for a quarter of an hour. */
  readonly until?: RegExp
  /** Kills it, as a crash does. */
  readonly killed?: AbortSignal
}

/** A test that waits for longer is told what restic has said until then. */
const resticMsMax = 40_000

export interface ResticEnd {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export async function addUser(usersFile: string, secret: Omit<UserSecret, 'secret' | 'appendOnly'>): Promise<void> {
  const password = await hashPassword(userPassword, systemEntropy)
  await changeUsersFile(usersFile, (secrets) => [...secrets, { ...secret, appendOnly: false, secret: password }])
}

export async function addToken(usersFile: string, user: string, appendOnly: boolean): Promise<string> {
  const { token, hash } = createToken(systemEntropy)
  const secret = { kind: 'token', label: `of-${user}`, hash } as const
  await changeUsersFile(usersFile, (secrets) => [...secrets, { user, appendOnly, secret }])
  return token
}

/** @param restic the client; the newest, if none is named */
/** Files for stock restic to back up: text, and bytes that nothing compresses. Returns the directory. */
export async function makeSource(directory: string, noiseBytes: number): Promise<string> {
  const source = join(directory, 'source')
  await mkdir(join(source, 'sub'), { recursive: true })
  await writeFile(join(source, 'a.txt'), 'first\n'.repeat(1000))
  const noise = Buffer.alloc(noiseBytes)
  systemEntropy.fill(noise)
  await writeFile(join(source, 'sub', 'noise'), noise)
  return source
}

/** Stock restic, which has to succeed; its output. */
export async function resticOk(bench: VaultBench, path: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await bench.restic(path, args)
  if (code !== 0) throw new Error(`restic ${args.join(' ')} ended with ${code}: ${stderr}`)
  return stdout
}

/** Ids of what stock restic lists. */
export async function snapshotsOf(bench: VaultBench, path: string): Promise<readonly string[]> {
  const parsed: unknown = JSON.parse(await resticOk(bench, path, 'snapshots', '--json'))
  if (!Array.isArray(parsed)) throw new Error('restic lists no snapshots')
  return parsed.map((each: { readonly id: string }) => each.id)
}

export async function startVaultBench(
  first: Partial<VaultOptions> = {},
  restic: Restic = newestRestic,
): Promise<VaultBench> {
  const scratch = await temporaryDirectory('vault')
  const root = join(scratch.path, 'vault')
  await mkdir(root, { mode: 0o700 })
  const usersFile = join(root, usersFileName)
  for (const user of ['alice', 'bob']) await addUser(usersFile, { user })
  const log: VaultLogEntry[] = []
  const usual: VaultOptions = {
    root,
    usersFile,
    listen: { host: '127.0.0.1', port: 0 },
    clock: systemClock,
    freeBytesMin: 0,
    log: (entry) => void log.push(entry),
  }
  let vault = await startVault({ ...usual, ...first })
  return bench(
    { scratch, root, log, restic },
    {
      get: () => vault,
      async restart(options) {
        await vault.close()
        vault = await startVault({ ...usual, ...first, ...options })
      },
    },
  )
}

interface Parts {
  readonly scratch: TemporaryDirectory
  readonly root: string
  readonly log: VaultLogEntry[]
  readonly restic: Restic
}

interface Running {
  get(): StartedVault
  restart(options?: Partial<VaultOptions>): Promise<void>
}

function bench({ scratch, root, log, restic }: Parts, running: Running): VaultBench {
  let files = 0
  const url = (path: string) => `${running.get().url}${path}`
  async function credentials(user: string, secret = userPassword) {
    files += 1
    const path = join(scratch.path, `credentials-${files}`)
    await writeFile(path, `${user}:${secret}\n`, { mode: 0o600 })
    return path
  }
  return {
    directory: scratch.path,
    root,
    log,
    vault: running.get,
    url,
    restart: running.restart,
    credentials,
    async store(path, options) {
      const credentialsFile = await credentials(path.split('/')[1] ?? '')
      return openRestStore({ url: url(path), credentialsFile, ...options })
    },
    async makeRepository(path) {
      const store = await openRestStore({
        url: url(path),
        credentialsFile: await credentials(path.split('/')[1] ?? ''),
      })
      const scryptCost = { n: 1024, r: 8, p: 1 }
      await initRepository({
        store,
        password: repositoryPassword,
        clock: systemClock,
        entropy: systemEntropy,
        scryptCost,
      })
    },
    async restic(path, args, options = {}) {
      const { user = path.split('/')[1] ?? '', secret = userPassword, cacert } = options
      const address = new URL(url(path))
      address.username = user
      address.password = encodeURIComponent(secret)
      const env = {
        PATH: process.env['PATH'] ?? '',
        HOME: scratch.path,
        TZ: 'UTC',
        RESTIC_PASSWORD: repositoryPassword,
        RESTIC_REPOSITORY: `rest:${address.href}`,
        RESTIC_CACHE_DIR: join(scratch.path, 'cache'),
      }
      const all = [...(cacert === undefined ? [] : ['--cacert', cacert]), ...args]
      return resticEnd(all, { command: restic.command, env, cwd: scratch.path }, options)
    },
    async [Symbol.asyncDispose]() {
      await running.get().close()
      await scratch.remove()
    },
  }
}

interface ResticPlace {
  readonly command: string
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
}

function resticEnd(
  args: readonly string[],
  { command, ...place }: ResticPlace,
  { until, killed }: Pick<ResticOptions, 'until' | 'killed'>,
): Promise<ResticEnd> {
  const child = spawn(command, args, { ...place, stdio: ['ignore', 'pipe', 'pipe'] })
  const kill = () => child.kill('SIGKILL')
  killed?.addEventListener('abort', kill)
  const tooLong = setTimeout(() => {
    stderr += `\nkilled after ${resticMsMax} ms`
    kill()
  }, resticMsMax)
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (data: Buffer) => {
    stdout += data.toString('utf8')
  })
  child.stderr.on('data', (data: Buffer) => {
    stderr += data.toString('utf8')
    if (until?.test(stderr) === true) child.kill('SIGINT')
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => {
      clearTimeout(tooLong)
      resolve({ code: code ?? -1, stdout, stderr })
    })
  })
}
