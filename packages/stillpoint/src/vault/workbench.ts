/** A real vault on a free port, with users, and what stock restic and our client say to it. For tests. */
import { spawn } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openRestStore, type RestStoreOptions } from '@stillpoint/repository'
import { type TemporaryDirectory, temporaryDirectory } from '@stillpoint/testbed'
import { systemClock, systemEntropy } from '../system-env.ts'
import { createToken, hashPassword } from './authentication.ts'
import { type StartedVault, startVault, type VaultOptions } from './start-vault.ts'
import { usersFileName } from './user-names.ts'
import { changeUsersFile, type UserSecret } from './users-file.ts'
import type { VaultLogEntry } from './vault-app.ts'

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
  /** Stock restic; answers its output and exit code. */
  restic(path: string, args: readonly string[], options?: ResticOptions): Promise<ResticEnd>
}

export interface ResticOptions {
  readonly user?: string
  readonly secret?: string
  readonly cacert?: string
  /** Interrupts restic as soon as stderr matches: it would go on trying for a minute. */
  readonly until?: RegExp
}

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

export async function startVaultBench(first: Partial<VaultOptions> = {}): Promise<VaultBench> {
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
    { scratch, root, log, usual, first },
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
  readonly usual: VaultOptions
  readonly first: Partial<VaultOptions>
}

interface Running {
  get(): StartedVault
  restart(options?: Partial<VaultOptions>): Promise<void>
}

function bench({ scratch, root, log }: Parts, running: Running): VaultBench {
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
    async restic(path, args, { user = path.split('/')[1] ?? '', secret = userPassword, cacert, until } = {}) {
      const address = new URL(url(path))
      address.username = user
      address.password = encodeURIComponent(secret)
      const env = {
        PATH: process.env['PATH'] ?? '',
        HOME: scratch.path,
        TZ: 'UTC',
        RESTIC_PASSWORD: 'of the repository',
        RESTIC_REPOSITORY: `rest:${address.href}`,
        RESTIC_CACHE_DIR: join(scratch.path, 'cache'),
      }
      const all = [...(cacert === undefined ? [] : ['--cacert', cacert]), ...args]
      return resticEnd(all, { env, cwd: scratch.path }, until)
    },
    async [Symbol.asyncDispose]() {
      await running.get().close()
      await scratch.remove()
    },
  }
}

interface ResticPlace {
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
}

function resticEnd(args: readonly string[], place: ResticPlace, until: RegExp | undefined): Promise<ResticEnd> {
  const child = spawn('restic', args, { ...place, stdio: ['ignore', 'pipe', 'pipe'] })
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
    child.once('close', (code) => resolve({ code: code ?? -1, stdout, stderr }))
  })
}
