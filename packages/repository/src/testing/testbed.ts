/** Owns what the tests of this package share: a real world (clock, entropy), scratch directories, the real restic. */
import { execFile, spawnSync } from 'node:child_process'
import { lstat, mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { newestRestic, type Restic } from '@stillpoint/testbed'
import { onTestFinished } from 'vitest'
import { openLocalStore } from '../blob/local-store.ts'
import { sha256 } from '../format/ids.ts'
import { bytesFromName, nameFromBytes } from '../format/node-name.ts'
import { linuxCalls } from '../native/native-calls.ts'
import { initRepository, openRepository, openVault, type Repository } from '../repository.ts'
import type { Vault } from '../vault.ts'
import { clock, entropy, world } from './world.ts'

export * from './world.ts'

export const password = 'correct horse'
export const scryptCost = { n: 1024, r: 8, p: 1 }

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

/** Runs the newest real restic on a repository; rejects with its output when it fails. */
export const restic = resticOf(newestRestic)

/** The same for one of them. */
export function resticOf({ command }: Restic): (path: string, ...args: string[]) => Promise<string> {
  return (path, ...args) => askRestic(command, path, args)
}

async function askRestic(command: string, path: string, args: readonly string[]): Promise<string> {
  const home = await scratch()
  const passwordFile = join(home, 'password')
  await writeFile(passwordFile, password)
  const env = { ...process.env, RESTIC_PASSWORD_FILE: passwordFile, RESTIC_CACHE_DIR: join(home, 'cache'), TZ: 'UTC' }
  const all = ['--repo', path, ...args]
  const { stdout } = await run(command, all, { env, maxBuffer: 1 << 28, cwd: home })
  return stdout
}

/** What a restore must bring back, by path: kind, mode, owner, time (as exact as it can be set), content, shared inodes. */
export async function fingerprint(directory: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  const inodes = new Map<bigint, number>()
  async function visit(path: Buffer, name: string): Promise<void> {
    const status = await lstat(path, { bigint: true })
    const mtime = linuxCalls() === undefined ? status.mtimeNs / 1000n : status.mtimeNs
    const parts = [status.mode.toString(8), status.uid, status.gid, mtime]
    if (status.isFile()) {
      if (!inodes.has(status.ino)) inodes.set(status.ino, inodes.size)
      parts.push(`file ${inodes.get(status.ino)} ${status.nlink}`, sha256(await readFile(path)))
    } else if (status.isSymbolicLink()) parts.push(nameFromBytes(await readlink(path, { encoding: 'buffer' })))
    if (name !== '') found[name] = parts.join(' ')
    if (!status.isDirectory()) return
    const names = (await readdir(path, { encoding: 'buffer' })).sort(Buffer.compare)
    for (const child of names) {
      await visit(Buffer.concat([path, Buffer.from('/'), child]), `${name}/${nameFromBytes(child)}`)
    }
  }
  await visit(bytesFromName(directory), '')
  return found
}

export async function collected(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = []
  for await (const piece of pieces) all.push(piece)
  return Buffer.concat(all)
}

/** The inside of a repository, for tests that put something wrong into it. */
export async function newVault(path: string): Promise<Vault> {
  return openVault({ store: openLocalStore(path), password, ...world })
}
