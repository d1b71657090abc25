/** Owns what the tests of this package share: a real world (clock, entropy), scratch directories, the real restic. */
import { execFile, spawnSync } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Clock, Entropy, Random } from '@stillpoint/core/kernel'
import { onTestFinished } from 'vitest'
import { openLocalStore } from './blob/local-store.ts'
import { initRepository, openRepository, type Repository } from './repository.ts'

export const clock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, wake) {
    const timer = setTimeout(wake, delayMs).unref()
    return () => clearTimeout(timer)
  },
}

export const entropy: Entropy = { fill: (target) => void randomFillSync(target) }

/** A seeded generator (mulberry32): decides in tests, so that a seed is a test. */
export function seeded(seed: number): Random & { below(count: number): number; bytes(count: number): Buffer } {
  let state = seed >>> 0
  const uint32 = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
  const bytes = (count: number) => {
    const words = Uint32Array.from({ length: Math.ceil(count / 4) }, uint32)
    return Buffer.from(words.buffer, 0, count)
  }
  return { uint32, bytes, below: (count) => uint32() % count }
}

export const password = 'correct horse'
export const scryptCost = { n: 1024, r: 8, p: 1 }
export const world = { clock, entropy, random: seeded(1) }

/** A directory that is removed when the test ends. */
export async function scratch(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'stillpoint-repository-'))
  onTestFinished(() => rm(path, { recursive: true, force: true }))
  return path
}

export async function newRepository(path: string): Promise<Repository> {
  const store = openLocalStore(path)
  await initRepository({ store, password, entropy, clock, scryptCost })
  return openRepository({ store, password, ...world })
}

export const reopen = (path: string) => openRepository({ store: openLocalStore(path), password, ...world })

/** Seals what `directory` holds under `name`, as a source would. */
export async function takeSnapshot(repository: Repository, directory: string, name = 'files') {
  const save = await repository.startSave()
  const saved = await save.saveDirectory(directory)
  await save.finish()
  const id = await repository.seal({
    time: BigInt(Date.now()) * 1_000_000n,
    paths: [directory],
    hostname: 'test-host',
    username: 'tester',
    tags: ['test'],
    trees: { [name]: saved.tree },
    programVersion: 'stillpoint test',
  })
  return { id, saved }
}

export function hasTool(name: string): boolean {
  return spawnSync(name, ['version']).error === undefined
}

const run = promisify(execFile)

/** Runs the real restic on a repository; rejects with its output when it fails. */
export async function restic(path: string, ...args: string[]): Promise<string> {
  const home = await scratch()
  const passwordFile = join(home, 'password')
  await writeFile(passwordFile, password)
  const env = { ...process.env, RESTIC_PASSWORD_FILE: passwordFile, RESTIC_CACHE_DIR: join(home, 'cache'), TZ: 'UTC' }
  const all = ['--repo', path, ...args]
  const { stdout } = await run('restic', all, { env, maxBuffer: 1 << 28, cwd: home })
  return stdout
}
