/**
 * Owns a disk that fails: it stands between Node's file system and the code under test, counts every step that writes
 * below a directory, and at the step that was chosen fails as a disk does, kills the process, or cuts the power.
 *
 * Nothing in production code knows of it: the functions of `node:fs/promises` are replaced for as long as it is mounted.
 *
 * Invariants: 1. a file whose fsync failed loses its content at once, and a second fsync succeeds: as Linux drops the pages
 * (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020). 2. After a death no call below the
 * directory has any effect. 3. A power cut takes back every name whose directory was not synced since, and empties
 * every file that was not synced: the least that POSIX promises.
 */
import { fstatSync, linkSync, lstatSync, mkdirSync, rmdirSync, truncateSync, unlinkSync } from 'node:fs'
import fileSystem, { type FileHandle } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { dirname, join } from 'node:path'

export const steps = [
  'create',
  'write',
  'fsync',
  'close',
  'link',
  'rename',
  'unlink',
  'mkdir',
  'fsyncDirectory',
] as const
export type Step = (typeof steps)[number]

export type Accident =
  | { readonly kind: 'error'; readonly errno: 'ENOSPC' | 'EIO' }
  /** The process dies before the step. */
  | { readonly kind: 'death' }
  /** The machine does. */
  | { readonly kind: 'powerCut' }

export interface MountOptions {
  /** What lies below it is watched. */
  readonly path: string
  /** On the same file system and not below `path`: keeps what a power cut brings back. */
  readonly shadow: string
  readonly accident?: Accident
  /** Number of the step at which it happens, from 1. */
  readonly at?: number
}

export interface MountedDisk {
  readonly taken: readonly Step[]
  /** The step at which the accident happened. */
  readonly happened: Step | undefined
  unmount(): void
}

const real = {
  open: fileSystem.open,
  link: fileSystem.link,
  rename: fileSystem.rename,
  unlink: fileSystem.unlink,
  mkdir: fileSystem.mkdir,
  readdir: fileSystem.readdir,
  lstat: fileSystem.lstat,
  stat: fileSystem.stat,
}

interface Disk {
  readonly options: MountOptions
  readonly taken: Step[]
  happened: Step | undefined
  isDead: boolean
  /** By directory: how to take back what happened to its names since it was synced. */
  readonly names: Map<string, (() => void)[]>
  /** Files by inode that were written and not synced, with a name that they have. */
  readonly unsynced: Map<number, string>
  shadows: number
}

function errorOf(errno: string, step: string, path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${errno}: injected, ${step} '${path}'`), { code: errno, syscall: step, path })
}

function isBelow(disk: Disk, path: unknown): path is string {
  return typeof path === 'string' && (path === disk.options.path || path.startsWith(`${disk.options.path}/`))
}

/** Counts a step. Throws where it must not happen; `failing` does first what a failure leaves behind. */
async function take(disk: Disk, step: Step, path: string, failing: () => void | Promise<void> = () => {}) {
  requireAlive(disk, step, path)
  disk.taken.push(step)
  const { accident, at } = disk.options
  if (accident === undefined || disk.taken.length !== at) return
  disk.happened = step
  if (accident.kind === 'error') {
    await failing()
    throw errorOf(accident.errno, step, path)
  }
  disk.isDead = true
  if (accident.kind === 'powerCut') cutPower(disk)
  throw errorOf('EIO', step, path)
}

function requireAlive(disk: Disk, step: string, path: string): void {
  if (disk.isDead) throw errorOf('EIO', `after death: ${step}`, path)
}

function cutPower(disk: Disk): void {
  for (const [inode, path] of disk.unsynced) if (inodeOf(path) === inode) truncateSync(path)
  for (const undo of [...disk.names.values()].flatMap((all) => all.reverse())) undo()
}

function inodeOf(path: string): number | undefined {
  return lstatSync(path, { throwIfNoEntry: false })?.ino
}

function remember(disk: Disk, path: string, undo: () => void): void {
  const directory = dirname(path)
  disk.names.set(directory, [...(disk.names.get(directory) ?? []), undo])
}

function rememberGone(disk: Disk, path: string): void {
  disk.shadows += 1
  const shadow = join(disk.options.shadow, `${disk.shadows}`)
  linkSync(path, shadow)
  remember(disk, path, () => linkSync(shadow, path))
}

export function mountDisk(options: MountOptions): MountedDisk {
  mkdirSync(options.shadow, { recursive: true })
  const disk: Disk = {
    options,
    taken: [],
    happened: undefined,
    isDead: false,
    names: new Map(),
    unsynced: new Map(),
    shadows: 0,
  }
  Object.assign(fileSystem, wrappersOf(disk))
  syncBuiltinESMExports()
  return {
    taken: disk.taken,
    get happened() {
      return disk.happened
    },
    unmount() {
      Object.assign(fileSystem, real)
      syncBuiltinESMExports()
    },
  }
}

function wrappersOf(disk: Disk) {
  return {
    async open(path: string, flags?: string | number, mode?: number): Promise<FileHandle> {
      if (!isBelow(disk, path)) return real.open(path, flags, mode)
      requireAlive(disk, 'open', path)
      const creates = typeof flags === 'string' && flags.includes('x')
      if (creates) await take(disk, 'create', path)
      const handle = await real.open(path, flags, mode)
      if (creates) remember(disk, path, () => ifThere(() => unlinkSync(path)))
      return creates ? watchedFile(disk, handle, path) : watchedDirectory(disk, handle, path)
    },
    async link(from: string, to: string): Promise<void> {
      if (!isBelow(disk, to)) return real.link(from, to)
      await take(disk, 'link', to)
      await real.link(from, to)
      remember(disk, to, () => ifThere(() => unlinkSync(to)))
      const inode = inodeOf(to)
      if (inode !== undefined && disk.unsynced.has(inode)) disk.unsynced.set(inode, to)
    },
    async rename(from: string, to: string): Promise<void> {
      if (isBelow(disk, to)) await take(disk, 'rename', to)
      return real.rename(from, to)
    },
    async unlink(path: string): Promise<void> {
      if (!isBelow(disk, path)) return real.unlink(path)
      await take(disk, 'unlink', path)
      if (inodeOf(path) !== undefined) rememberGone(disk, path)
      await real.unlink(path)
    },
    async mkdir(path: string, how?: Parameters<typeof real.mkdir>[1]) {
      if (!isBelow(disk, path)) return real.mkdir(path, how)
      await take(disk, 'mkdir', path)
      const made = await real.mkdir(path, how)
      remember(disk, path, () => ifThere(() => rmdirSync(path)))
      return made
    },
    ...readersOf(disk),
  }
}

/** Reading is no step: but who is dead does not read. */
function readersOf(disk: Disk) {
  const alive = (step: string, path: unknown) => {
    if (isBelow(disk, path)) requireAlive(disk, step, path)
  }
  return {
    readdir: (...all: Parameters<typeof real.readdir>) =>
      after(
        () => alive('readdir', all[0]),
        () => real.readdir(...all),
      ),
    lstat: (...all: Parameters<typeof real.lstat>) =>
      after(
        () => alive('lstat', all[0]),
        () => real.lstat(...all),
      ),
    stat: (...all: Parameters<typeof real.stat>) =>
      after(
        () => alive('stat', all[0]),
        () => real.stat(...all),
      ),
  }
}

async function after<T>(first: () => void, then: () => Promise<T>): Promise<T> {
  first()
  return then()
}

/** What a power cut takes back may depend on what it has taken back already. */
function ifThere(undo: () => void): void {
  try {
    undo()
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code !== 'ENOENT' && code !== 'ENOTEMPTY') throw error
  }
}

function watchedFile(disk: Disk, handle: FileHandle, path: string): FileHandle {
  const [writeFile, sync, close] = [handle.writeFile.bind(handle), handle.sync.bind(handle), handle.close.bind(handle)]
  const inode = fstatSync(handle.fd).ino
  return Object.assign(handle, {
    async writeFile(bytes: Uint8Array): Promise<void> {
      await take(disk, 'write', path, () => writeFile(bytes.subarray(0, bytes.length / 2)))
      disk.unsynced.set(inode, path)
      await writeFile(bytes)
    },
    async sync(): Promise<void> {
      await take(disk, 'fsync', path, () => handle.truncate(0))
      await sync()
      disk.unsynced.delete(inode)
    },
    async close(): Promise<void> {
      try {
        if (!disk.isDead) await take(disk, 'close', path)
      } finally {
        await close()
      }
    },
  })
}

function watchedDirectory(disk: Disk, handle: FileHandle, path: string): FileHandle {
  const sync = handle.sync.bind(handle)
  return Object.assign(handle, {
    async sync(): Promise<void> {
      await take(disk, 'fsyncDirectory', path)
      await sync()
      disk.names.delete(path)
    },
  })
}
