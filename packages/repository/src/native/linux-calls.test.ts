import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { scratch } from '../testing/testbed.ts'
import type { FileStatus } from './file-status.ts'
import { type LinuxCalls, noDirectory } from './linux-calls.ts'
import { linuxCalls } from './native-calls.ts'

function known(): LinuxCalls {
  const calls = linuxCalls()
  if (calls === undefined) throw new Error('the calls are known on Linux')
  return calls
}

const calls = known()

function opened(path: string): number {
  const descriptor = openSync(path, constants.O_RDONLY)
  onTestFinished(() => closeSync(descriptor))
  return descriptor
}

const codeOf = (action: () => unknown): unknown => {
  try {
    action()
    return 'nothing'
  } catch (error) {
    return (error as NodeJS.ErrnoException).code
  }
}

function facts(status: FileStatus): readonly unknown[] {
  const { dev, ino, mode, nlink, uid, gid, rdev, size, atimeNs, mtimeNs, ctimeNs } = status
  const kinds = [
    status.isFile(),
    status.isDirectory(),
    status.isSymbolicLink(),
    status.isBlockDevice(),
    status.isCharacterDevice(),
    status.isFIFO(),
    status.isSocket(),
  ]
  return [dev, ino, mode, nlink, uid, gid, rdev, size, atimeNs, mtimeNs, ctimeNs, ...kinds]
}

test('the status of all kinds of entries is what Node says', async () => {
  const home = await scratch()
  writeFileSync(join(home, 'file'), 'text', { mode: 0o640 })
  chmodSync(join(home, 'file'), 0o4751)
  linkSync(join(home, 'file'), join(home, 'again'))
  execFileSync('truncate', ['-s', '5G', join(home, 'large')])
  execFileSync('touch', ['-d', '1965-03-04T05:06:07.123456789Z', join(home, 'large')])
  mkdirSync(join(home, 'folder'))
  symlinkSync('nowhere', join(home, 'link'))
  execFileSync('mkfifo', [join(home, 'fifo')])
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(join(home, 'socket'), resolve))
  const directory = opened(home)
  for (const name of ['file', 'again', 'large', 'folder', 'link', 'fifo', 'socket', '.', '..']) {
    const there = lstatSync(join(home, name), { bigint: true })
    expect([name, ...facts(calls.statAt(directory, Buffer.from(name)))]).toEqual([name, ...facts(there)])
  }
  for (const path of ['/dev/null', '/proc/self/status', '/']) {
    const ours = calls.statAt(noDirectory, Buffer.from(path))
    expect(facts(ours).slice(0, 8)).toEqual(facts(lstatSync(path, { bigint: true })).slice(0, 8))
  }
  server.close()
})

test('a directory that was renamed is still the one that is open; errors are those of the system', async () => {
  const home = await scratch()
  mkdirSync(join(home, 'one'))
  const raw = Buffer.from([0x66, 0xff, 0x0a, 0x66])
  writeFileSync(Buffer.concat([Buffer.from(`${home}/one/`), raw]), 'not UTF-8')
  symlinkSync('.', join(home, 'one', 'link'))
  const directory = opened(join(home, 'one'))
  execFileSync('mv', [join(home, 'one'), join(home, 'two')])
  const descriptor = calls.openAt(directory, raw, constants.O_RDONLY | constants.O_NOFOLLOW)
  expect(readFileSync(descriptor, 'utf8')).toBe('not UTF-8')
  // Not inherited by programs that are started.
  expect(readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8')).toMatch(/flags:\t02\d{6}\n/)
  closeSync(descriptor)
  const open = (name: string, flags = 0) => codeOf(() => closeSync(calls.openAt(directory, Buffer.from(name), flags)))
  expect(open('nowhere')).toBe('ENOENT')
  expect(open('link', constants.O_NOFOLLOW)).toBe('ELOOP')
  expect(open('x'.repeat(256))).toBe('ENAMETOOLONG')
  expect(open('x'.repeat(10_000))).toBe('ENAMETOOLONG')
  expect(open('link\0and more')).toBe('EINVAL')
  expect(codeOf(() => calls.getAttribute(directory, 'user.first\0and more'))).toBe('EINVAL')
  expect(codeOf(() => calls.statAt(directory, Buffer.from('link/nowhere')))).toBe('ENOENT')
  expect(codeOf(() => calls.statAt(1_000_000, Buffer.from('link')))).toBe('EBADF')
  expect(codeOf(() => calls.setTimes(1_000_000, { atime: 0n, mtime: 0n }))).toBe('EBADF')
  expect(() => calls.statAt(directory, Buffer.from('nowhere'))).toThrow('ENOENT: no such file or directory, statx')
})

test('what is made has the permissions that the mask leaves, and is made once', async () => {
  const home = await scratch()
  const directory = opened(home)
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
  for (const permissions of [0o777, 0o600, 0o4755]) {
    const name = Buffer.from([0xff, permissions & 0xff])
    const descriptor = calls.createAt(directory, name, { flags, permissions })
    const mode = Number(fstatSync(descriptor).mode) & 0o7777
    closeSync(descriptor)
    const theirs = openSync(join(home, `${permissions}`), flags, permissions)
    expect(mode).toBe(Number(fstatSync(theirs).mode) & 0o7777)
    closeSync(theirs)
    expect(codeOf(() => calls.createAt(directory, name, { flags, permissions }))).toBe('EEXIST')
  }
})

test('times are set to the nanosecond, before 1970 too, and of links', async () => {
  const home = await scratch()
  writeFileSync(join(home, 'file'), '')
  symlinkSync('file', join(home, 'link'))
  const [directory, file] = [opened(home), opened(join(home, 'file'))]
  for (const mtime of [1_763_780_000_123_456_789n, 1n, 0n, -1n, -152_000_000_000_000_001n]) {
    calls.setTimes(file, { atime: mtime + 5n, mtime })
    const status = fstatSync(file, { bigint: true })
    expect([status.atimeNs, status.mtimeNs]).toEqual([mtime + 5n, mtime])
  }
  calls.setTimesAt(directory, Buffer.from('link'), { atime: 7n, mtime: 999_999_999_999n })
  expect(lstatSync(join(home, 'link'), { bigint: true }).mtimeNs).toBe(999_999_999_999n)
  expect(fstatSync(file, { bigint: true }).mtimeNs).toBe(-152_000_000_000_000_001n)
})

test('attributes: none, many, large ones, of what is open and of a path of any bytes', async () => {
  const home = await scratch()
  const path = Buffer.concat([Buffer.from(`${home}/`), Buffer.from([0xfe, 0x22])])
  writeFileSync(path, '')
  const file = openSync(path, constants.O_RDONLY)
  onTestFinished(() => closeSync(file))
  const wanted = new Map([['user.first', Buffer.alloc(0)]])
  for (let at = 0; at < 20; at += 1) wanted.set(`user.${'ü'.repeat(20)}${at}`, Buffer.alloc(at * 5, at))
  wanted.set('user.large', Buffer.alloc(900, 'large'))
  for (const [name, value] of wanted) calls.setAttribute(path, name, value)
  for (const owner of [file, path]) {
    const names = calls.listAttributes(owner)
    expect(names.filter((name) => name.startsWith('user.')).sort()).toEqual([...wanted.keys()].sort())
    for (const [name, value] of wanted) expect(calls.getAttribute(owner, name)).toEqual(value)
    expect(codeOf(() => calls.getAttribute(owner, 'user.none'))).toBe('ENODATA')
    expect(codeOf(() => calls.getAttribute(owner, `user.${'x'.repeat(300)}`))).toBe('ERANGE')
  }
  for (const name of wanted.keys()) calls.removeAttribute(path, name)
  expect(calls.listAttributes(file).filter((name) => name.startsWith('user.'))).toEqual([])
  expect(calls.listAttributes(path).filter((name) => name.startsWith('user.'))).toEqual([])
  expect(codeOf(() => calls.removeAttribute(path, 'user.first'))).toBe('ENODATA')
  expect(codeOf(() => calls.listAttributes(Buffer.from('/nowhere/at all')))).toBe('ENOENT')
})
