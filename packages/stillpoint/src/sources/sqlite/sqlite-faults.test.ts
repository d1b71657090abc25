/** What the conformance suite cannot show of SQLite: our own death at any line, other users of the file, bad files. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, copyFileSync, lstatSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { type CutId, Failure } from '@stillpoint/core/kernel'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { MemorySink } from '../memory-parts.ts'
import type { SourceSession } from '../source.ts'
import { checkFileSystem, judgeFileSystem } from './file-system.ts'
import { sqliteOptions, sqliteSource } from './index.ts'
import { openFile, testClock } from './sqlite-workbench.ts'

const never = new AbortController().signal
const here = fileURLToPath(new URL('.', import.meta.url))
const cut = 'cut-1' as CutId
let dir = ''
let sessions: SourceSession[] = []
let processes: ChildProcess[] = []

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'stillpoint-sqlite-faults-'))
  sessions = []
  processes = []
})
afterEach(async () => {
  for (const session of sessions) await session.close()
  for (const child of processes) child.kill('SIGKILL')
  await rm(dir, { recursive: true, force: true })
})

function make(name: string, rows: number): string {
  const path = join(dir, name)
  const database = new DatabaseSync(path)
  database.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)')
  database.exec('BEGIN')
  for (let i = 0; i < rows; i += 1) database.exec(`INSERT INTO t (v) VALUES ('${name.repeat(5)}')`)
  database.exec('COMMIT')
  database.close()
  return path
}

function rowsOf(path: string, where = 'true'): number {
  const database = openFile(path)
  try {
    expect(database.prepare('PRAGMA integrity_check').get()).toEqual({ integrity_check: 'ok' })
    return Number(database.prepare(`SELECT count(*) AS n FROM t WHERE ${where}`).get()?.['n'])
  } finally {
    database.close()
  }
}

async function open(path: string, options: Readonly<Record<string, unknown>> = {}): Promise<SourceSession> {
  const env = { clock: testClock, baseDir: dir, scratchDir: dir, note: () => undefined }
  const session = await sqliteSource.open(sqliteOptions.parse({ path, ...options }), env, never)
  sessions.push(session)
  return session
}

async function capture(path: string) {
  const session = await open(path)
  const sink = new MemorySink()
  await session.mark(cut, never)
  await session.capture(cut, sink, never)
  await session.close()
  return sink.parts()
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof Failure)) throw new Error(`a Failure was expected, not ${String(error)}`)
  expect(error.hint).toBeDefined()
  return error.code
}

async function script(source: string): Promise<ChildProcess> {
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', source],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      cwd: here,
    },
  )
  processes.push(child)
  return child
}

async function firstLine(child: ChildProcess): Promise<void> {
  if (child.stdout === null) throw new Error('no stdout')
  await once(child.stdout, 'data')
}

function tryWrite(path: string): boolean {
  const database = openFile(path)
  try {
    database.exec("INSERT INTO t (v) VALUES ('w')")
    return true
  } catch {
    return false
  } finally {
    database.close()
  }
}

async function writableAfterMs(path: string, atMostMs: number): Promise<number> {
  const start = performance.now()
  while (!tryWrite(path)) {
    if (performance.now() - start > atMostMs) throw new Error(`still held after ${atMostMs} ms`)
    await new Promise((wake) => setTimeout(wake, 10))
  }
  return performance.now() - start
}

const holder = (path: string, leaseMs: number) => `
  import { sqliteSource, sqliteOptions } from './index.ts'
  import { testClock } from './sqlite-workbench.ts'
  const env = { clock: testClock, baseDir: '/', scratchDir: ${JSON.stringify(dir)}, note() {} }
  const session = await sqliteSource.open(sqliteOptions.parse({ path: ${JSON.stringify(path)} }), env, new AbortController().signal)
  await session.quiesce('c', ${leaseMs}, new AbortController().signal)
  console.log('held')
  setInterval(() => {}, 1000)
`

describe('the hold of a SQLite database', () => {
  test('ends at its lease while the process that asked for it is stopped', async () => {
    const path = make('app.db', 1)
    const child = await script(holder(path, 700))
    await firstLine(child)
    child.kill('SIGSTOP')
    expect(tryWrite(path)).toBe(false)
    expect(await writableAfterMs(path, 3000)).toBeGreaterThan(300)
  })

  test('ends at once when the process that asked for it is killed', async () => {
    const path = make('app.db', 1)
    const child = await script(holder(path, 60_000))
    await firstLine(child)
    expect(tryWrite(path)).toBe(false)
    child.kill('SIGKILL')
    expect(await writableAfterMs(path, 3000)).toBeLessThan(3000)
  })

  test('cannot be had while a transaction of somebody else is open, and says so within its time', async () => {
    const path = make('app.db', 1)
    const other = openFile(path)
    other.exec('BEGIN IMMEDIATE')
    const session = await open(path, { busyTimeoutMs: 150 })
    expect(await codeOf(session.quiesce(cut, 5000, never))).toBe('hold_unavailable')
    other.exec('ROLLBACK')
    other.close()
    await session.quiesce(cut, 5000, never)
    expect(await session.resume(cut)).toEqual({ unbroken: true })
  })
})

describe('the mark of a SQLite database', () => {
  test('is exact while others write and checkpoint during the copy', async () => {
    const path = make('app.db', 0)
    const setup = openFile(path)
    setup.exec(
      'CREATE TABLE big (id INTEGER PRIMARY KEY, v BLOB); WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 4000) INSERT INTO big SELECT x, randomblob(2000) FROM c',
    )
    const sum = 'SELECT count(*) AS n, sum(id) AS ids, hex(sha) AS sha FROM (SELECT id, max(v) OVER () AS sha FROM big)'
    const before = setup.prepare(sum).get()
    const session = await open(path)
    await session.mark(cut, never)
    const writer = await script(`
      import { DatabaseSync } from 'node:sqlite'
      const db = new DatabaseSync(${JSON.stringify(path)}, { timeout: 1000 })
      for (let i = 0; ; i += 1) {
        db.exec('UPDATE big SET v = randomblob(2000) WHERE id % 50 = ' + (i % 50) + '; INSERT INTO big (v) VALUES (randomblob(900)); PRAGMA wal_checkpoint(PASSIVE)')
        if (i === 3) console.log('writing')
        await new Promise((wake) => setTimeout(wake, 2))
      }
    `)
    await firstLine(writer)
    const sink = new MemorySink()
    await session.capture(cut, sink, never)
    writer.kill('SIGKILL')
    expect(setup.prepare('SELECT count(*) AS n FROM big').get()).not.toEqual({ n: 4000 })
    setup.close()
    const target = await open('copy.db')
    await target.restore(sink.parts(), { replace: false }, never)
    const copy = openFile(join(dir, 'copy.db'))
    expect(copy.prepare(sum).get()).toEqual(before)
    copy.close()
    expect((await target.verify(sink.parts(), never)).checks.filter((check) => !check.passed)).toEqual([])
  })

  test('does not stop checkpoints once the copy is made', async () => {
    const path = make('app.db', 5)
    const session = await open(path)
    await session.mark(cut, never)
    const other = openFile(path)
    other.exec("INSERT INTO t (v) VALUES ('after')")
    expect(other.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get()).toMatchObject({ busy: 1 })
    await session.capture(cut, new MemorySink(), never)
    expect(other.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get()).toMatchObject({ busy: 0 })
    other.close()
  })

  test('of a database without WAL is refused above the size that may be copied', async () => {
    const path = make('app.db', 50)
    const database = openFile(path)
    database.exec('PRAGMA journal_mode = DELETE')
    database.close()
    const session = await open(path, { copyBytesMax: 4096 })
    expect(await codeOf(session.mark(cut, never))).toBe('mark_too_large')
  })

  test.each([
    ['no file', () => undefined, 'store_unreachable'],
    ['a text', (path: string) => writeFileSync(path, 'x'.repeat(5000)), 'store_not_database'],
    ['a directory', (path: string) => symlinkSync(tmpdir(), path), 'store_not_database'],
  ])('of %s fails by name', async (_, prepare, code) => {
    prepare(join(dir, 'bad.db'))
    const session = await open('bad.db')
    expect(await codeOf(session.prepare(cut, never))).toBe(code)
    expect(await codeOf(session.mark(cut, never))).toBe(code)
    expect(await codeOf(session.quiesce(cut, 1000, never))).toBe(code)
  })

  test('a network file system is refused', async () => {
    expect(judgeFileSystem(0x6969)).toEqual({ use: 'no', name: 'NFS' })
    expect(judgeFileSystem(-11317950)).toEqual({ use: 'no', name: 'CIFS' })
    expect(judgeFileSystem(0xef53)).toEqual({ use: 'yes' })
    expect(await codeOf(checkFileSystem(join(dir, 'absent'), () => undefined))).toBe('store_unreachable')
  })
})

/** Kills itself before or after the nth change of the file system that the swap makes. Prints how many there were. */
const crashingSwap = (ask: object, crashAt: number) => `
  import fs from 'node:fs'
  import { syncBuiltinESMExports } from 'node:module'
  let step = 0
  const point = () => { if (step++ === ${crashAt}) process.kill(process.pid, 'SIGKILL') }
  for (const name of ['renameSync', 'rmSync', 'fsyncSync', 'chmodSync', 'linkSync']) {
    const real = fs[name]
    fs[name] = (...parameters) => { point(); const result = real(...parameters); point(); return result }
  }
  syncBuiltinESMExports()
  const { swapTarget } = await import('./child-restore.ts')
  swapTarget(${JSON.stringify(ask)})
  console.log(step)
  process.kill(process.pid, 'SIGKILL')
`

describe('the restore of a SQLite database', () => {
  /** As a writer leaves it that was killed: 1000 rows are in the file, and so many more committed in the log only. */
  async function crashed(name: string, rows: number): Promise<string> {
    const path = make(name, 1000)
    const child = await script(`
      import { DatabaseSync } from 'node:sqlite'
      const db = new DatabaseSync(${JSON.stringify(path)})
      for (let i = 0; i < ${rows}; i += 1) db.exec("INSERT INTO t (v) VALUES ('old')")
      // Pages all over the file, so that this log in a new file would show.
      db.exec("UPDATE t SET v = 'old' WHERE id % 20 = 0")
      console.log('written')
      setInterval(() => {}, 1000)
    `)
    await firstLine(child)
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(statSync(`${path}-wal`).size).toBeGreaterThan(0)
    return path
  }

  test('crashed at any step leaves the old database or the new one, whole', async () => {
    const old = await crashed('old.db', 7)
    const fresh = make('fresh.db', 300)
    const seen = new Set<number>()
    const path = join(dir, 'app.db')
    for (let crashAt = 0; ; crashAt += 1) {
      for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(path + suffix, { force: true })
      for (const suffix of ['', '-wal', '-shm']) copyFileSync(old + suffix, path + suffix)
      copyFileSync(fresh, join(dir, 'new.db'))
      const child = await script(
        crashingSwap({ op: 'swap', path, from: join(dir, 'new.db'), replace: true, busyTimeoutMs: 500 }, crashAt),
      )
      let printed = ''
      child.stdout?.on('data', (chunk: Buffer) => {
        printed += chunk.toString()
      })
      await once(child, 'close')
      const rows = rowsOf(path)
      seen.add(rows)
      expect([300, 1007]).toContain(rows)
      expect(rowsOf(path, "v LIKE 'fresh%'")).toBe(rows === 300 ? 300 : 0)
      if (printed !== '') {
        expect(rows).toBe(300)
        expect(Number(printed)).toBeGreaterThan(8)
        break
      }
      expect(crashAt, 'the swap never ends').toBeLessThan(60)
    }
    expect([...seen].toSorted()).toEqual([1007, 300])
  })

  test('is refused while another process has the database open, and the database stays as it is', async () => {
    const path = make('app.db', 4)
    const parts = await capture(make('other.db', 2))
    for (const mode of ['WAL', 'DELETE']) {
      const idle = await script(`
        import { DatabaseSync } from 'node:sqlite'
        const db = new DatabaseSync(${JSON.stringify(path)})
        db.exec('PRAGMA journal_mode = ${mode}')
        db.prepare('SELECT count(*) FROM t').get()
        console.log('open')
        setInterval(() => db.isOpen, 1000)
      `)
      await firstLine(idle)
      const session = await open(path, { busyTimeoutMs: 100 })
      expect(await codeOf(session.checkTarget(parts, { replace: true }, never))).toBe('target_in_use')
      expect(await codeOf(session.restore(parts, { replace: true }, never))).toBe('target_in_use')
      idle.kill('SIGKILL')
      await once(idle, 'exit')
      expect(rowsOf(path)).toBe(4)
    }
  })

  test('replaces what is damaged only when told to, and plays no old log into the new file', async () => {
    const old = await crashed('app.db', 9)
    const parts = await capture(make('other.db', 2))
    writeFileSync(old, 'not a database at all, and longer than a header'.repeat(100))
    const session = await open(old)
    expect(await codeOf(session.restore(parts, { replace: false }, never))).toBe('target_not_empty')
    const { notes } = await session.restore(parts, { replace: true }, never)
    expect(notes).toHaveLength(1)
    expect(rowsOf(old)).toBe(2)
  })

  test('refuses a log without its database unless it is to be replaced', async () => {
    const old = await crashed('app.db', 9)
    rmSync(old)
    const parts = await capture(make('other.db', 2))
    const session = await open(old)
    expect(await codeOf(session.restore(parts, { replace: false }, never))).toBe('target_not_empty')
    await session.restore(parts, { replace: true }, never)
    expect(rowsOf(old)).toBe(2)
  })

  test('refuses damaged parts, and leaves nothing behind', async () => {
    const good = await capture(make('other.db', 2))
    const chunks: Uint8Array[] = []
    for await (const chunk of good.file('database.sqlite', never)) chunks.push(chunk)
    const bytes = Buffer.concat(chunks)
    bytes[bytes.length - 10] = (bytes.at(-10) ?? 0) ^ 1
    const session = await open('app.db')
    expect(await codeOf(session.restore(good.with('database.sqlite', bytes), { replace: false }, never))).toBe(
      'part_damaged',
    )
    expect(
      await codeOf(session.restore(good.with('manifest.json', Buffer.from('{}')), { replace: false }, never)),
    ).toBe('part_damaged')
    expect(await codeOf(session.restore(new MemorySink().parts(), { replace: false }, never))).toBe('part_missing')
    expect(readdirSync(dir).filter((name) => name.startsWith('app.db') || name.startsWith('.stillpoint'))).toEqual([])
  })

  test('keeps the mode of the old file, the symlink to it, and the journal mode of the new one', async () => {
    const path = make('app.db', 4)
    chmodSync(path, 0o640)
    symlinkSync(path, join(dir, 'link.db'))
    const parts = await capture(make('other.db', 2))
    await (await open('link.db')).restore(parts, { replace: true }, never)
    expect(lstatSync(join(dir, 'link.db')).isSymbolicLink()).toBe(true)
    expect(statSync(path).mode & 0o777).toBe(0o640)
    expect(rowsOf(path)).toBe(2)
    const database = openFile(path)
    expect(database.prepare('PRAGMA journal_mode').get()).toEqual({ journal_mode: 'wal' })
    database.close()
  })
})
