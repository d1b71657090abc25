/**
 * In the child: the open database and its mark.
 *
 * WAL: the mark is a read transaction. What it reads is the database at that moment, whatever is written or checkpointed
 * meanwhile (https://sqlite.org/wal.html, "Concurrency"); the online backup from this very connection copies exactly its
 * pages. Without WAL a reader would block writers, so the mark is a copy, made at once: not O(1), hence limited.
 *
 * Invariants:
 * - No descriptor of the database's files that this process opened by itself is ever closed: closing one would drop all
 *   SQLite's locks on that file (POSIX, fcntl). They go with the process.
 * - Copying happens once; then the read transaction ends, and checkpoints are free again.
 */
import { openSync, readSync, rmSync, statSync } from 'node:fs'
import { backup, type DatabaseSync } from 'node:sqlite'
import { ChildFailure, factsOf, numberOf, openDatabase, textOf } from './child-database.ts'
import type { Answer, AskOf, DatabaseFacts, TargetFile } from './messages.ts'

const pagesPerStep = 4096
/** Tries to see the same WAL position before and after the read transaction began; under a hold the first one does. */
const positionTries = 200

type Position = Record<string, string | number>

export class ChildMark {
  readonly path: string
  readonly database: DatabaseSync
  readonly #dev: number
  readonly #inode: number
  #walIndex: number | undefined
  #copied: DatabaseFacts | undefined

  constructor(file: TargetFile) {
    this.path = file.path
    const stat = statSync(file.path, { throwIfNoEntry: false })
    if (stat === undefined) {
      throw new ChildFailure('store_unreachable', `the SQLite database does not exist: ${file.path}`, {
        hint: 'Check the path; relative paths start at the directory of the configuration file.',
      })
    }
    if (!stat.isFile()) {
      throw new ChildFailure('store_not_database', `not a regular file: ${file.path}`, { hint: 'Check the path.' })
    }
    this.#dev = stat.dev
    this.#inode = stat.ino
    this.database = openDatabase(file.path, { busyTimeoutMs: file.busyTimeoutMs })
  }

  describe(): Answer<'open'> {
    return {
      sqlite: textOf(this.database, 'SELECT sqlite_version()'),
      journal: textOf(this.database, 'PRAGMA journal_mode'),
      pageBytes: numberOf(this.database, 'PRAGMA page_size'),
      pages: numberOf(this.database, 'PRAGMA page_count'),
    }
  }

  /** Why the path no longer names the open file, or undefined. */
  moved(): string | undefined {
    const stat = statSync(this.path, { throwIfNoEntry: false })
    if (stat === undefined) return `the SQLite database is gone: ${this.path}`
    if (stat.dev !== this.#dev || stat.ino !== this.#inode) return `another file has taken the place of ${this.path}`
    return undefined
  }

  async take(ask: AskOf<'mark'>): Promise<Answer<'mark'>> {
    const moved = this.moved()
    if (moved !== undefined) {
      throw new ChildFailure('store_unreachable', moved, {
        hint: 'Put it back, then take the next snapshot.',
        retry: 'later',
      })
    }
    if (textOf(this.database, 'PRAGMA journal_mode') === 'wal') {
      return { position: await this.#pinWal(), copied: false }
    }
    const bytes = numberOf(this.database, 'PRAGMA page_count') * numberOf(this.database, 'PRAGMA page_size')
    if (bytes > ask.copyBytesMax) {
      throw new ChildFailure('mark_too_large', `${this.path} is not in WAL mode and has ${bytes} bytes`, {
        hint: `Without WAL its writers wait for a whole copy. Run \`PRAGMA journal_mode = WAL\` on it, or allow the copy with copyBytesMax (now ${ask.copyBytesMax}).`,
      })
    }
    this.#read()
    const position = { journal: 'rollback', ...this.#size(), change: this.#changeCounter() }
    await this.copy(ask.copyTo)
    return { position, copied: true }
  }

  /** Copies what the mark pins, once. The copy is a whole database, page for page as it was. */
  async copy(copyTo: string): Promise<Answer<'copy'>> {
    if (this.#copied === undefined) {
      if (!this.database.isTransaction) throw new TypeError('a copy without a mark')
      rmSync(copyTo, { force: true })
      await backup(this.database, copyTo, { rate: pagesPerStep })
      this.database.exec('ROLLBACK')
      this.#copied = factsOfCopy(copyTo, textOf(this.database, 'PRAGMA journal_mode'))
    }
    return { facts: this.#copied }
  }

  #read(): void {
    this.database.exec('BEGIN')
    // BEGIN alone pins nothing: the first read does.
    this.database.prepare('SELECT count(*) FROM sqlite_schema').get()
  }

  async #pinWal(): Promise<Position> {
    for (let tries = 1; ; tries += 1) {
      const before = this.#walHeader()
      this.#read()
      const after = this.#walHeader()
      if (before.equals(after) && !before.every((byte) => byte === 0)) {
        return { journal: 'wal', ...this.#size(), ...walPosition(after) }
      }
      // A commit came between: the snapshot is exact all the same, and only its name is not known.
      if (tries === positionTries) return { journal: 'wal', ...this.#size(), frame: 'unknown' }
      this.database.exec('ROLLBACK')
      await new Promise((wake) => setTimeout(wake, 1))
    }
  }

  #size(): Position {
    return {
      pages: numberOf(this.database, 'PRAGMA page_count'),
      pageBytes: numberOf(this.database, 'PRAGMA page_size'),
    }
  }

  /** The first copy of the header of the WAL index (https://sqlite.org/walformat.html, 2.1). */
  #walHeader(): Buffer {
    this.#walIndex ??= openSync(`${this.path}-shm`, 'r')
    const header = Buffer.alloc(48)
    readSync(this.#walIndex, header, 0, header.length, 0)
    return header
  }

  /** Bytes 24 to 27 of the file: incremented by every transaction outside WAL mode (https://sqlite.org/fileformat2.html). */
  #changeCounter(): number {
    const header = Buffer.alloc(4)
    const length = readSync(openSync(this.path, 'r'), header, 0, header.length, 24)
    return length === header.length ? header.readUInt32BE(0) : 0
  }
}

function walPosition(header: Buffer): Position {
  return {
    frame: header.readUInt32LE(16),
    change: header.readUInt32LE(8),
    salt: header.subarray(32, 40).toString('hex'),
  }
}

function factsOfCopy(path: string, journal: string): DatabaseFacts {
  const copy = openDatabase(path, { busyTimeoutMs: 0, immutable: true })
  try {
    return factsOf(copy, journal)
  } finally {
    copy.close()
  }
}
