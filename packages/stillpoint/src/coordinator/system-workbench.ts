/** A system of real stores in a temporary directory, with load, for the coordinator's tests. For tests only. */
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { initRepository, openLocalStore, openRepository, type Repository } from '@stillpoint/repository'
import { openSqliteCatalog, type SqliteCatalog } from '../catalog/sqlite-catalog.ts'
import { loadConfig } from '../config/load.ts'
import type { SystemConfig } from '../config/system-config.ts'
import { openSource, sources } from '../sources/registry.ts'
import type { SourceSession } from '../sources/source.ts'
import { systemClock, systemEntropy, systemRandom } from '../system-env.ts'
import { type LocalOperations, localOperations } from './local-operations.ts'
import type { OperationContext, OperationEvent } from './operations.ts'
import { noProcesses, type ProcessDirectory } from './process-directory.ts'

export const password = 'correct horse'
const env = { clock: systemClock, random: systemRandom, entropy: systemEntropy }

export const defaultStores = `
  accounts: { source: sqlite, path: accounts.db }
  uploads: { source: files, path: uploads }`

export interface SystemBench {
  readonly dir: string
  readonly config: SystemConfig
  readonly catalog: SqliteCatalog
  readonly operations: LocalOperations
  /** Another client of the same directory, as another process would be. */
  reopen(options?: BenchOptions): Promise<SystemBench>
  repository(): Promise<Repository>
  path(name: string): string
  stop(): Promise<void>
}

export interface BenchOptions {
  /** The participants, as YAML below `participants:`. */
  readonly participants?: string
  readonly deadlines?: string
  readonly attempts?: number
  readonly processes?: ProcessDirectory
  /** Puts something between the system and a source's session. */
  readonly wrap?: (name: string, session: SourceSession) => SourceSession
}

export async function startSystem(options: BenchOptions = {}): Promise<SystemBench> {
  const dir = mkdtempSync(join(tmpdir(), 'stillpoint-'))
  writeFileSync(join(dir, 'password'), `${password}\n`, { mode: 0o600 })
  await initRepository({
    store: openLocalStore(join(dir, 'repository')),
    password,
    entropy: systemEntropy,
    clock: systemClock,
    scryptCost: { n: 2 ** 10, r: 8, p: 1 },
  })
  createAccounts(join(dir, 'accounts.db'))
  mkdirSync(join(dir, 'uploads'))
  writeFileSync(join(dir, 'uploads', 'first'), 'one')
  return openSystem(dir, options, true)
}

export function configText(options: BenchOptions): string {
  const { participants = defaultStores, attempts = 3, deadlines = '' } = options
  return `version: 1
system: bank
repository: { path: repository, passwordFile: password }
retries: { attempts: ${attempts}, backoff: 20ms }
deadlines: { ${deadlines} }
participants:${participants}
`
}

export async function openSystem(dir: string, options: BenchOptions, owns: boolean): Promise<SystemBench> {
  const configPath = join(dir, 'stillpoint.yaml')
  writeFileSync(configPath, configText(options))
  const optionSchemas = new Map([...sources].map(([kind, { optionsSchema }]) => [kind, optionsSchema]))
  const config = await loadConfig(configPath, { optionSchemas })
  const note = () => {}
  const catalog = openSqliteCatalog({ directory: config.stateDir, note })
  const open = () => openRepository({ store: openLocalStore(join(dir, 'repository')), password, ...env })
  const operations = localOperations({
    ...env,
    config,
    catalog,
    processes: options.processes ?? noProcesses,
    openRepository: open,
    async openSource(store, sourceEnv, signal) {
      const session = await openSource(store.source, store.options, sourceEnv, signal)
      return options.wrap?.(store.name, session) ?? session
    },
    loadTarget: async (path) => {
      const target = await loadConfig(path, { optionSchemas })
      return { config: target, catalog: openSqliteCatalog({ directory: target.stateDir, note }) }
    },
  })
  const children: SystemBench[] = []
  return {
    dir,
    config,
    catalog,
    operations,
    async reopen(again = options) {
      const child = await openSystem(dir, again, false)
      children.push(child)
      return child
    },
    repository: open,
    path: (name) => join(dir, name),
    async stop() {
      for (const child of children) await child.stop()
      await operations.close()
      if (owns) rmSync(dir, { recursive: true, force: true })
    },
  }
}

export function quiet(signal: AbortSignal = AbortSignal.timeout(60_000)): OperationContext {
  return { signal, onEvent: () => {} }
}

export function recording(signal: AbortSignal = AbortSignal.timeout(60_000)): {
  readonly context: OperationContext
  readonly events: OperationEvent[]
} {
  const events: OperationEvent[] = []
  return { events, context: { signal, onEvent: (event) => events.push(event) } }
}

function createAccounts(path: string): void {
  const database = new DatabaseSync(path)
  database.exec(`PRAGMA journal_mode = WAL;
    CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
    INSERT INTO account VALUES (1, 1000), (2, 1000)`)
  database.close()
}

/** Over the rows, whatever the pages look like. */
export function accountsDigest(path: string): string {
  const database = new DatabaseSync(path, { readOnly: true })
  try {
    return createHash('sha256')
      .update(JSON.stringify(database.prepare('SELECT * FROM account ORDER BY id').all()))
      .digest('hex')
  } finally {
    database.close()
  }
}

export function treeDigest(path: string): string {
  const hash = createHash('sha256')
  for (const entry of readdirSync(path, { recursive: true, withFileTypes: true }).toSorted((a, b) =>
    join(a.parentPath, a.name) < join(b.parentPath, b.name) ? -1 : 1,
  )) {
    const full = join(entry.parentPath, entry.name)
    hash.update(full.slice(path.length))
    if (entry.isFile()) hash.update(readFileSync(full))
  }
  return hash.digest('hex')
}

/** Whether a writer can write to the database at once: no hold is left. */
export function isWritable(path: string): boolean {
  const database = new DatabaseSync(path, { timeout: 0 })
  try {
    database.exec('BEGIN IMMEDIATE; UPDATE account SET balance = balance; COMMIT')
    return true
  } catch {
    return false // SQLITE_BUSY: somebody holds it.
  } finally {
    database.close()
  }
}
