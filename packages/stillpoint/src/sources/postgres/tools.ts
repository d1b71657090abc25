/**
 * PostgreSQL's own programs: found, checked for their version, and run with the login in files and environment, never
 * in arguments, which every user of the machine can read.
 */
import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process'
import { accessSync, constants, readdirSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { promisify } from 'node:util'
import { Failure } from '@stillpoint/core/kernel'
import type { Login } from './connection.ts'

export type ToolName = 'pg_dump' | 'pg_dumpall' | 'pg_restore'

export interface Tool {
  readonly name: ToolName
  readonly path: string
  readonly major: number
}

const debianRoot = '/usr/lib/postgresql'
const stderrShownMax = 4_000
const run = promisify(execFile)

/**
 * The tool of the server's version, or the nearest newer one. An older one refuses a newer server, or, worse, misses
 * what it does not know.
 * @throws Failure `tool_missing` | `tool_version_unsupported`
 */
export async function findTool(name: ToolName, needs: { major: number; toolsDir?: string | undefined }): Promise<Tool> {
  const found: Tool[] = []
  for (const folder of needs.toolsDir === undefined ? toolFolders(needs.major) : [needs.toolsDir]) {
    const path = join(folder, name)
    const major = isProgram(path) ? await majorOf(path) : undefined
    if (major === undefined) continue
    if (major >= needs.major) return { name, path, major }
    found.push({ name, path, major })
  }
  if (found.length === 0) {
    const where = needs.toolsDir === undefined ? 'on this machine' : `in ${needs.toolsDir}`
    throw new Failure({
      code: 'tool_missing',
      message: `there is no ${name} ${where}`,
      hint: 'Install the Debian package postgresql-client, or name the directory in toolsDir.',
    })
  }
  const versions = [...new Set(found.map((tool) => tool.major))].join(', ')
  throw new Failure({
    code: 'tool_version_unsupported',
    message: `the server is PostgreSQL ${needs.major}, and ${name} is version ${versions}: it must not be older than the server`,
    hint: `Install the package postgresql-client-${needs.major} (from apt.postgresql.org), or name its directory in toolsDir.`,
  })
}

/** Debian's, the nearest version first, then the PATH. Debian's program on the PATH is a slow wrapper around the former. */
function toolFolders(major: number): readonly string[] {
  let versions: readonly number[] = []
  try {
    versions = readdirSync(debianRoot)
      .map(Number)
      .filter((version) => version >= major)
  } catch {
    // Not Debian's layout: the PATH is all there is.
  }
  const debian = versions.toSorted((a, b) => a - b).map((version) => join(debianRoot, String(version), 'bin'))
  const onPath = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '')
  return [...debian, ...onPath, '/usr/bin']
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false // not there, or not ours to run
  }
}

async function majorOf(path: string): Promise<number | undefined> {
  try {
    const { stdout } = await run(path, ['--version'], { env: baseEnvironment(), timeout: 10_000 })
    const major = /\(PostgreSQL\) (\d+)/.exec(stdout)?.[1]
    return major === undefined ? undefined : Number(major)
  } catch {
    return undefined // a program that cannot even tell its version is none that we can use
  }
}

/** Nothing of PG… is inherited: what is meant is in the configuration. */
function baseEnvironment(): Record<string, string> {
  const { PATH = '/usr/bin:/bin', HOME = '/', TMPDIR } = process.env
  return { PATH, HOME, LC_ALL: 'C.UTF-8', ...(TMPDIR === undefined ? {} : { TMPDIR }) }
}

export interface RunningTool {
  readonly stdin: Writable
  readonly stdout: Readable
  /** Answers when it has ended well. @throws Failure `code` with what it said; the signal's reason when aborted */
  readonly ended: Promise<void>
}

export interface ToolRun {
  readonly tool: Tool
  readonly args: readonly string[]
  readonly login: Login
  /** Where the password file is kept while it runs; 0700. */
  readonly scratchDir: string
  /** Of the failure, when it ends otherwise than with 0. */
  readonly code: string
  /** Settings of the session, as in PGOPTIONS. */
  readonly settings?: readonly string[]
}

/** Starts a tool. It is killed when the signal aborts, and its password file is removed when it has ended. */
export async function startTool(options: ToolRun, signal: AbortSignal): Promise<RunningTool> {
  signal.throwIfAborted()
  const { tool, login, scratchDir } = options
  const folder = await mkdtemp(join(scratchDir, 'login-'))
  let child: ChildProcessByStdio<Writable, Readable, Readable>
  try {
    const env = { ...baseEnvironment(), ...(await loginEnvironment(login, folder)), ...settingsOf(options) }
    child = spawn(tool.path, options.args, { env, cwd: '/', stdio: ['pipe', 'pipe', 'pipe'] })
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw error
  }
  const ended = outcome(child, options, signal).finally(() => rm(folder, { recursive: true, force: true }))
  // Whoever reads stdout may fail first; the outcome is awaited by them in a `finally`, and may not crash us before.
  ended.catch(() => undefined)
  return { stdin: child.stdin, stdout: child.stdout, ended }
}

function settingsOf(options: ToolRun): Record<string, string> {
  if (options.settings === undefined || options.settings.length === 0) return {}
  return { PGOPTIONS: options.settings.map((setting) => `-c ${setting}`).join(' ') }
}

async function loginEnvironment({ address, password }: Login, folder: string): Promise<Record<string, string>> {
  const escaped = (password ?? '').replaceAll('\\', '\\\\').replaceAll(':', '\\:')
  const passwordFile = join(folder, 'pgpass')
  // Written even without a password: else the tool would look for ~/.pgpass.
  await writeFile(passwordFile, password === undefined ? '' : `*:*:*:*:${escaped}\n`, { mode: 0o600 })
  return {
    PGHOST: address.host,
    PGPORT: String(address.port),
    PGUSER: address.user,
    // Not an argument: there, a name like `host=elsewhere` would be read as connection settings.
    PGDATABASE: address.database,
    PGPASSFILE: passwordFile,
    PGSSLMODE: address.sslMode,
    ...rootCertificates(address),
    PGAPPNAME: 'stillpoint',
    PGCONNECT_TIMEOUT: '10',
    // The password file has one line for each password: one with a line break does not fit in.
    ...(password?.includes('\n') ? { PGPASSWORD: password } : {}),
  }
}

/** libpq has no trusted authorities of its own: those of the system, where Debian keeps them. */
function rootCertificates({ sslMode, sslRootCertFile }: Login['address']): Record<string, string> {
  if (sslRootCertFile !== undefined) return { PGSSLROOTCERT: sslRootCertFile }
  return sslMode.startsWith('verify') ? { PGSSLROOTCERT: '/etc/ssl/certs/ca-certificates.crt' } : {}
}

function outcome(
  child: ChildProcessByStdio<Writable, Readable, Readable>,
  options: ToolRun,
  signal: AbortSignal,
): Promise<void> {
  let stderr = ''
  child.stderr.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString('utf8')).slice(-stderrShownMax)
  })
  // EPIPE when the tool ends before it has read all: its exit code tells more.
  child.stdin.on('error', () => undefined)
  const kill = () => child.kill('SIGKILL')
  signal.addEventListener('abort', kill, { once: true })
  if (signal.aborted) kill()
  return new Promise<void>((resolve, reject) => {
    child.once('error', (cause) => {
      const { name, path } = options.tool
      const hint = 'Install the Debian package postgresql-client.'
      reject(
        new Failure({
          code: 'tool_missing',
          message: `${name} (${path}) cannot be run: ${cause.message}`,
          hint,
          cause,
        }),
      )
    })
    child.once('close', (exitCode, killedBy) => {
      if (exitCode === 0) resolve()
      else reject(signal.aborted ? signal.reason : toolFailure(options, { exitCode, killedBy, stderr }))
    })
  }).finally(() => signal.removeEventListener('abort', kill))
}

function toolFailure(
  options: ToolRun,
  end: { exitCode: number | null; killedBy: NodeJS.Signals | null; stderr: string },
): Failure {
  const { name } = options.tool
  const how = end.killedBy === null ? `ended with exit code ${end.exitCode}` : `was ended by ${end.killedBy}`
  const message = `${name} ${how}: ${end.stderr.trim() || 'it said nothing'}`
  // The tools give no SQLSTATE: these are the C locale's words, in which they run.
  if (/No space left on device|disk full/i.test(end.stderr)) {
    return new Failure({ code: 'disk_full', message, hint: 'Free some space on the server’s disk, and try again.' })
  }
  if (/max_locks_per_transaction|out of shared memory/.test(end.stderr)) {
    const hint = 'Raise max_locks_per_transaction in postgresql.conf, and restart the server.'
    return new Failure({ code: 'store_out_of_memory', message, hint })
  }
  if (/due to lock timeout/.test(end.stderr)) {
    const hint =
      'A statement such as TRUNCATE or ALTER TABLE waits for a table of this snapshot. Take the snapshot when it has ended.'
    return new Failure({ code: 'capture_blocked', message, hint, retry: 'later' })
  }
  if (/permission denied|must be owner|must be superuser/.test(end.stderr)) {
    const hint = 'docs/sources/postgres.md lists the GRANTs that the role needs.'
    return new Failure({ code: 'store_privilege_missing', message, hint })
  }
  const lost = /server closed the connection|connection to server|terminating connection|could not connect/.test(
    end.stderr,
  )
  return new Failure({
    code: lost ? 'store_lost' : options.code,
    message,
    hint: lost ? 'Look into the server’s log, and try again.' : `The words after the colon are ${name}’s own.`,
    retry: lost ? 'later' : 'never',
  })
}
