/** A SQLite database with writers of its own, for the conformance suite. For tests only. */
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import type { Clock } from '@stillpoint/core/kernel'
import type { Source, SourceSession } from '../source.ts'
import { type AcknowledgedWrite, type EmptyTarget, type Load, sleep, type Workbench } from '../workbench.ts'
import { type SqliteOptions, sqliteOptions, sqliteSource } from './index.ts'

export const testClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, wake) {
    const timer = setTimeout(wake, delayMs)
    return () => clearTimeout(timer)
  },
}

const schema = 'CREATE TABLE rows (id INTEGER PRIMARY KEY, content BLOB NOT NULL)'
const besides = ['', '-wal', '-shm', '-journal']

export interface SqliteWorkbench extends Workbench {
  readonly dir: string
  readonly path: string
}

export function openFile(path: string): DatabaseSync {
  const url = pathToFileURL(path)
  url.search = '?mode=rw'
  return new DatabaseSync(url, { timeout: 0 })
}

/** Tries until the store takes it: the event loop stays free while it is held. */
async function writing<T>(body: () => T): Promise<T> {
  for (;;) {
    try {
      return body()
    } catch (error) {
      if (!(error instanceof Error && 'errcode' in error && (Number(error.errcode) & 0xff) === 5)) throw error
      await sleep(2)
    }
  }
}

function digestOf(path: string): string {
  const database = openFile(path)
  try {
    database.exec('PRAGMA busy_timeout = 30000')
    const hash = createHash('sha256')
    const tables = database.prepare("SELECT name FROM sqlite_schema WHERE name = 'rows'").all()
    if (tables.length === 0) return 'no table'
    for (const row of database.prepare('SELECT id, content FROM rows ORDER BY id').iterate()) {
      hash.update(String(row['id'])).update(row['content'] instanceof Uint8Array ? row['content'] : '?')
    }
    return hash.digest('hex')
  } finally {
    database.close()
  }
}

function insert(path: string, rows: number): void {
  const database = openFile(path)
  try {
    database.exec('BEGIN IMMEDIATE')
    const add = database.prepare('INSERT INTO rows (content) VALUES (randomblob(300))')
    for (let i = 0; i < rows; i += 1) add.run()
    database.exec('COMMIT')
  } finally {
    database.close()
  }
}

function startLoad(path: string): Load {
  const writes: AcknowledgedWrite[] = []
  let stopped = false
  const run = async () => {
    const database = openFile(path)
    try {
      while (!stopped) {
        const startedMs = performance.now()
        try {
          database.exec('INSERT INTO rows (content) VALUES (randomblob(200)); ')
          writes.push({ startedMs, acknowledgedMs: performance.now() })
        } catch {
          // Held: tried again below, until the load is stopped.
        }
        await sleep(4)
      }
    } finally {
      database.close()
    }
  }
  const writers = [run(), run()]
  return {
    acknowledged: () => writes,
    async stop() {
      stopped = true
      await Promise.all(writers)
      return { acknowledged: writes.length }
    },
  }
}

export async function sqliteWorkbench(
  options: {
    readonly journal?: 'wal' | 'delete'
    readonly wrap?: (source: typeof sqliteSource) => Source<SqliteOptions>
  } = {},
): Promise<SqliteWorkbench> {
  const dir = await mkdtemp(join(tmpdir(), 'stillpoint-sqlite-'))
  const source = options.wrap?.(sqliteSource) ?? sqliteSource
  const path = join(dir, 'source', 'app.db')
  await mkdir(join(dir, 'source'))
  const made = new DatabaseSync(path)
  made.exec(`PRAGMA journal_mode = ${options.journal ?? 'wal'}; ${schema}`)
  made.close()
  let count = 0
  const open = async (file: string): Promise<SourceSession> => {
    count += 1
    const scratchDir = join(dir, `scratch-${count}`)
    await mkdir(scratchDir, { mode: 0o700 })
    const env = { clock: testClock, baseDir: dir, scratchDir, note: () => undefined }
    // SQLite's locks are not fair: on a busy machine a reader may meet a writer many times in a row.
    return source.open(sqliteOptions.parse({ path: file, busyTimeoutMs: 30_000 }), env, new AbortController().signal)
  }
  const gone = join(dir, 'gone')
  const move = async (from: string, to: string) => {
    await rm(to, { recursive: true, force: true })
    await rename(from, to)
  }
  return {
    dir,
    path,
    open: () => open(path),
    write: (rows) => writing(() => insert(path, rows)),
    startLoad: async () => startLoad(path),
    digest: async () => digestOf(path),
    wipe: () =>
      writing(() => {
        const database = openFile(path)
        database.exec('DELETE FROM rows')
        database.close()
      }),
    async openEmptyTarget(): Promise<EmptyTarget> {
      count += 1
      const target = join(dir, `target-${count}.db`)
      const session = await open(target)
      return {
        session,
        digest: async () => digestOf(target),
        async close() {
          await session.close()
          for (const suffix of besides) await rm(target + suffix, { force: true })
        },
      }
    },
    // Its directory is gone at once, as a disk is that has been pulled out.
    kill: () => move(join(dir, 'source'), gone),
    revive: () => move(gone, join(dir, 'source')),
    stop: () => rm(dir, { recursive: true, force: true }),
    outsideWrite: {
      program: process.execPath,
      parameters: [
        '--disable-warning=ExperimentalWarning',
        '-e',
        `const { DatabaseSync } = require('node:sqlite'); new DatabaseSync(${JSON.stringify(path)}, { timeout: 10000 }).exec('INSERT INTO rows (content) VALUES (randomblob(9))')`,
      ],
    },
  }
}
