/** Runs the command as a user does: a process of its own, in a directory of its own. For tests. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'

/** Compiled once for all runs: half of what a short command costs. Inside the checkout, where nobody else can write. */
export const compileCache = fileURLToPath(
  new URL('../../../../node_modules/.cache/stillpoint-compiled', import.meta.url),
)
const binary = fileURLToPath(new URL('../../bin/stillpoint.js', import.meta.url))

export interface Ended {
  readonly code: number | null
  readonly killedBy: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export interface Started {
  readonly child: ChildProcess
  readonly ended: Promise<Ended>
  /** Resolves when stdout and stderr together contain the text. @throws when the command ends before */
  shows(text: string): Promise<void>
}

/** @param options of Node, for what cannot be seen from outside */
export function start(cwd: string, args: readonly string[], options: readonly string[] = []): Started {
  const { NO_COLOR: _, ...env } = process.env
  const child = spawn(process.execPath, [...options, binary, ...args], {
    cwd,
    env: { ...env, NODE_COMPILE_CACHE: compileCache },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  let ended = false
  const watchers = new Set<() => void>()
  const tell = () => {
    for (const watcher of watchers) watcher()
  }
  child.stdout.on('data', (data: Buffer) => {
    stdout += data.toString('utf8')
    tell()
  })
  child.stderr.on('data', (data: Buffer) => {
    stderr += data.toString('utf8')
    tell()
  })
  const end = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, killedBy) => {
      ended = true
      resolve({ code, killedBy, stdout, stderr })
      tell()
    })
  })
  const shows = (text: string) =>
    new Promise<void>((resolve, reject) => {
      const look = () => {
        const isThere = stdout.includes(text) || stderr.includes(text)
        if (!isThere && !ended) return
        watchers.delete(look)
        if (isThere) resolve()
        else reject(new Error(`ended without ${JSON.stringify(text)}: ${stdout}${stderr}`))
      }
      watchers.add(look)
      look()
    })
  return { child, ended: end, shows }
}

export function run(cwd: string, args: readonly string[]): Promise<Ended> {
  return start(cwd, args).ended
}

/** The directory of a small application with a SQLite database, and how it goes away. */
export async function makeApplication(): Promise<{ readonly directory: string; remove(): Promise<void> }> {
  const directory = await mkdtemp(join(tmpdir(), 'stillpoint-cli-'))
  const database = new DatabaseSync(join(directory, 'app.db'))
  database.exec("PRAGMA journal_mode = WAL; CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES ('first')")
  database.close()
  return { directory, remove: () => rm(directory, { recursive: true, force: true }) }
}

/** Writes into the database of the application; fails at once where somebody holds it. */
export function writeNote(directory: string, text: string): void {
  const database = new DatabaseSync(join(directory, 'app.db'))
  try {
    database.prepare('INSERT INTO notes VALUES (?)').run(text)
  } finally {
    database.close()
  }
}

export function readNotes(directory: string): readonly unknown[] {
  const database = new DatabaseSync(join(directory, 'app.db'))
  try {
    return database
      .prepare('SELECT text FROM notes ORDER BY rowid')
      .all()
      .map((row) => row['text'])
  } finally {
    database.close()
  }
}
