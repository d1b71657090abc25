/**
 * The tables of the embedded catalog, and how a file of an older version becomes one of this version.
 *
 * Owns: the schema and its migrations. A migration that was released is never changed; another one follows it.
 */
import type { DatabaseSync } from 'node:sqlite'
import { Failure } from '@stillpoint/core/kernel'

const migrations: readonly string[] = [
  `
  CREATE TABLE systems (
    system TEXT PRIMARY KEY,
    generation INTEGER NOT NULL CHECK (generation >= 1),
    epoch INTEGER NOT NULL CHECK (epoch >= 0),
    fencing INTEGER NOT NULL CHECK (fencing >= 0),
    repository TEXT
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE cuts (
    system TEXT NOT NULL REFERENCES systems,
    cut TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    fencing INTEGER NOT NULL,
    plan TEXT NOT NULL,
    outcome TEXT NOT NULL DEFAULT 'open' CHECK (outcome IN ('open', 'sealed', 'aborted')),
    snapshot TEXT CHECK ((snapshot IS NOT NULL) = (outcome = 'sealed')),
    reason TEXT,
    PRIMARY KEY (system, cut)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX open_cuts ON cuts (system) WHERE outcome = 'open';
  CREATE UNIQUE INDEX cut_epochs ON cuts (system, generation, epoch);

  CREATE TABLE cut_records (
    system TEXT NOT NULL,
    cut TEXT NOT NULL,
    position INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (system, cut, position),
    FOREIGN KEY (system, cut) REFERENCES cuts ON DELETE CASCADE
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE restores (
    system TEXT NOT NULL REFERENCES systems,
    restore TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    own_targets INTEGER NOT NULL CHECK (own_targets IN (0, 1)),
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'switched', 'closed')),
    reason TEXT,
    PRIMARY KEY (system, restore)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE restore_targets (
    system TEXT NOT NULL,
    restore TEXT NOT NULL,
    participant TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'begun', 'replaced')),
    PRIMARY KEY (system, restore, participant),
    FOREIGN KEY (system, restore) REFERENCES restores ON DELETE CASCADE
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE pending_restores (
    system TEXT NOT NULL REFERENCES systems,
    participant TEXT NOT NULL,
    restore TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    generation INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    PRIMARY KEY (system, participant)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE snapshots (
    system TEXT NOT NULL REFERENCES systems,
    id TEXT NOT NULL,
    summary TEXT NOT NULL,
    PRIMARY KEY (system, id)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE schedules (
    system TEXT NOT NULL REFERENCES systems,
    name TEXT NOT NULL,
    every_ms INTEGER NOT NULL CHECK (every_ms > 0),
    next_at_ms INTEGER NOT NULL,
    PRIMARY KEY (system, name)
  ) STRICT, WITHOUT ROWID;
  `,
]

/**
 * Brings the file to this version, each migration in a transaction of its own.
 * @throws Failure `catalog_version_unsupported`
 */
export function migrate(database: DatabaseSync, path: string): void {
  database.exec(`CREATE TABLE IF NOT EXISTS migrations (
    version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
  ) STRICT`)
  for (;;) {
    // Immediate: two processes that start together migrate one after the other.
    database.exec('BEGIN IMMEDIATE')
    try {
      const row = database.prepare('SELECT coalesce(max(version), 0) AS version FROM migrations').get()
      const version = Number(row?.['version'])
      if (version > migrations.length) throw tooNew(path, version)
      const next = migrations[version]
      if (next !== undefined) {
        database.exec(next)
        database.prepare('INSERT INTO migrations (version) VALUES (?)').run(version + 1)
      }
      database.exec('COMMIT')
      if (next === undefined) return
    } catch (error) {
      database.exec('ROLLBACK')
      throw error
    }
  }
}

function tooNew(path: string, version: number): Failure {
  return new Failure({
    code: 'catalog_version_unsupported',
    message: `The catalog ${path} has version ${version}; this program knows versions up to ${migrations.length}`,
    hint: 'Use the newer stillpoint that wrote it. Or move the file away: it is built again from the repository.',
  })
}
