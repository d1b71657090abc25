/** Owns asking the real restic about a repository on this machine, without its caches and locks: it starts in 30 ms. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { newestRestic, type Restic, restics } from '@stillpoint/testbed'
import { passwords } from './subject.ts'

const run = promisify(execFile)

/** Every version of it that we are compatible with: the rounds take them by turns, all else asks the newest. */
export const canRestic = restics.every(({ isHere }) => isHere)
export const resticNames = restics.map(({ name }) => name).join(', ')

export interface ResticEnd {
  readonly code: number
  readonly text: string
}

export interface ResticOptions {
  readonly program?: Restic
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly signal?: AbortSignal
}

/** Runs restic on a repository, with the first password that opens it. */
export async function restic(repository: string, args: readonly string[], options: ResticOptions = {}) {
  const first = await resticWith(passwords[0], repository, args, options)
  if (!/wrong password|no key found/.test(first.text)) return first
  return resticWith(passwords[1], repository, args, options)
}

async function resticWith(
  password: string,
  repository: string,
  args: readonly string[],
  options: ResticOptions,
): Promise<ResticEnd> {
  const given = { PATH: process.env['PATH'] ?? '', HOME: '/nonexistent', TZ: 'UTC', GOMAXPROCS: '1' }
  const env = { ...given, RESTIC_PASSWORD: password, RESTIC_REPOSITORY: repository, ...options.env }
  const { cwd, signal, program = newestRestic } = options
  const place = {
    env,
    maxBuffer: 1 << 28,
    ...(cwd === undefined ? {} : { cwd }),
    ...(signal === undefined ? {} : { signal }),
  }
  try {
    const { stdout, stderr } = await run(program.command, ['--no-cache', ...args], place)
    return { code: 0, text: stdout + stderr }
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'number') throw error
    const texts = ['stdout', 'stderr'].map((name) => Reflect.get(error, name))
    return { code: error.code, text: texts.join('') }
  }
}

/** What `restic check --read-data` has to say against the repository. */
export async function resticFinds(repository: string, options: ResticOptions = {}): Promise<readonly string[]> {
  const { code, text } = await restic(repository, ['check', '--read-data', '--no-lock'], options)
  return code === 0 && text.includes('no errors were found') ? [] : [`restic: ${text}`]
}
