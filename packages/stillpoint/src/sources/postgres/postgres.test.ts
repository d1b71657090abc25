import { chmod, chown, mkdir, readdir, stat, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { freePort, hasTool, smallDisk } from '@stillpoint/testbed'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type MemoryParts, MemorySink } from '../memory-parts.ts'
import type { Parts, SourceSession } from '../source.ts'
import { postgresOptions } from './postgres.ts'
import { type Bench, never, newCut, startBench } from './workbench.ts'

const odd = `
  CREATE ROLE writer; CREATE SCHEMA "Odd ""schema"".x"; CREATE SCHEMA scratch;
  CREATE TABLE "Odd ""schema"".x"."ta'b\\le; --" ("a b" int PRIMARY KEY, c text GENERATED ALWAYS AS ('x' || 'y') STORED);
  INSERT INTO "Odd ""schema"".x"."ta'b\\le; --" SELECT generate_series(1, 10);
  CREATE TABLE scratch.junk AS SELECT generate_series(1, 1000) n;
  CREATE TYPE mood AS ENUM ('fine', 'not fine');
  CREATE TABLE part (id int, at date NOT NULL, mood mood) PARTITION BY RANGE (at);
  CREATE TABLE part_old PARTITION OF part FOR VALUES FROM ('2020-01-01') TO ('2024-01-01');
  CREATE TABLE part_new PARTITION OF part FOR VALUES FROM ('2024-01-01') TO ('2028-01-01');
  INSERT INTO part VALUES (1, '2021-02-03', 'fine'), (2, '2025-06-07', 'not fine');
  CREATE TABLE empty (x float8, y timestamptz); CREATE UNLOGGED TABLE fast AS SELECT 1 AS one;
  CREATE TABLE floats (x float8, y timestamptz, z bytea); INSERT INTO floats VALUES (0.1 + 0.2, now(), '\\x00ff');
  CREATE VIEW both_parts AS SELECT * FROM part; CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM part;
  CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT 2 * $1';
  CREATE SEQUENCE plain START 100; SELECT nextval('plain'), nextval('plain'); CREATE SEQUENCE untouched START 7;
  CREATE TABLE counted_rows (id int GENERATED ALWAYS AS IDENTITY, v text); INSERT INTO counted_rows (v) VALUES ('a'), ('b');
  ALTER TABLE counted_rows ADD CONSTRAINT later CHECK (v <> 'z') NOT VALID;
  GRANT SELECT ON part TO writer; SELECT lo_from_bytea(4711, 'large object');
  ALTER DATABASE odd SET search_path = public, "Odd ""schema"".x"; ALTER DATABASE odd SET work_mem = '7MB';`

async function capture(
  session: SourceSession,
  inHold: () => Promise<unknown> = async () => undefined,
): Promise<MemoryParts> {
  const cut = newCut()
  await session.quiesce(cut, 10_000, never)
  await session.mark(cut, never)
  await inHold()
  expect(await session.resume(cut)).toEqual({ unbroken: true })
  const sink = new MemorySink()
  await session.capture(cut, sink, never)
  await session.release(cut)
  return sink.parts()
}

/** The same parts, but for one, whose bytes break off, or are followed by an error. */
function broken(parts: Parts, name: string, bytes: number, error?: Failure): Parts {
  return {
    names: () => parts.names(),
    directory: parts.directory.bind(parts),
    entries: parts.entries.bind(parts),
    async *file(asked, signal) {
      let left = asked === name ? bytes : Number.POSITIVE_INFINITY
      for await (const chunk of parts.file(asked, signal)) {
        yield chunk.subarray(0, left)
        left -= chunk.length
        if (left > 0) continue
        if (error !== undefined) throw error
        return
      }
    },
  }
}

describe('options of PostgreSQL', () => {
  test('a password in the URL is refused and not shown', () => {
    const parsed = postgresOptions.safeParse({ url: 'postgres://me:hunter2@db.example/shop' })
    expect(parsed.success).toBe(false)
    expect(JSON.stringify(parsed.error)).toContain('passwordFile')
    expect(JSON.stringify(parsed.error)).not.toContain('hunter2')
  })
  test.each([
    [{ url: 'postgres://me@db.example/shop', port: 1 }, 'either url'],
    [{ user: 'me' }, 'name of the database'],
    [{ url: 'mysql://me@x/y' }, 'postgres://'],
    [{ url: 'postgres://me@db.example/shop?sslmode=disable' }, 'parameters'],
    [{ url: 'postgres://me@db.example' }, 'no database'],
    [{ database: 'a', user: 'b', pasword: 'c' }, 'pasword'],
  ])('%o is refused: %s', (options, words) => {
    expect(JSON.stringify(postgresOptions.safeParse(options).error)).toContain(words)
  })
})

describe.skipIf(!hasTool('initdb') || !hasTool('pg_dump'))('PostgreSQL, cut and restored [needs postgresql]', () => {
  let bench: Bench
  beforeAll(async () => {
    bench = await startBench({ databases: ['odd', 'target', 'plain "db" x=y'] })
    await bench.server.sql('odd', odd)
  })
  afterAll(() => bench.stop())

  const sql = (database: string, text: string) => bench.server.sql(database, text)
  const remake = (name: string) =>
    sql('postgres', `DROP DATABASE IF EXISTS ${name} WITH (FORCE);\nCREATE DATABASE ${name}`)

  test('everything odd comes back: names, partitions, large objects, sequences, settings', async () => {
    const session = await bench.open('odd', { excludeSchemas: ['scratch'] })
    // Sequences do not stop in a hold: what is restored is where they stood at the mark.
    const parts = await capture(session, () => sql('odd', `SELECT nextval('plain'), nextval('untouched')`))
    await sql('odd', `SELECT setval('plain', 9999)`)
    expect(parts.names().toSorted()).toEqual(['database.dump', 'globals.sql', 'manifest.json', 'settings.json'])
    const target = await bench.open('target')
    const report = await target.restore(parts, { replace: false }, never)
    expect(report.notes).toEqual([])
    const { checks } = await target.verify(parts, never)
    expect(checks.filter((each) => !each.passed)).toEqual([])
    expect(
      await sql(
        'target',
        `SELECT last_value, is_called FROM plain UNION ALL SELECT last_value, is_called FROM untouched`,
      ),
    ).toBe('101|t\n7|f')
    expect(await sql('target', `SELECT convert_from(lo_get(4711), 'UTF8')`)).toBe('large object')
    expect(await sql('target', `SHOW search_path; SHOW work_mem; SELECT to_regclass('scratch.junk') IS NULL`)).toBe(
      'public, "Odd ""schema"".x"\n7MB\nt',
    )
    expect(await sql('target', `SELECT has_table_privilege('writer', 'part', 'SELECT')`)).toBe('t')
    expect(await sql('target', `SELECT count(*) FROM "Odd ""schema"".x"."ta'b\\le; --"`)).toBe('10')
    await sql('target', `INSERT INTO floats VALUES (1); SELECT setval('plain', 5)`)
    const failed = (await target.verify(parts, never)).checks.filter((each) => !each.passed)
    expect(failed.map((each) => each.name)).toEqual(['rows', 'contents', 'sequences'])
    await session.close()
  })

  test('a database whose name looks like settings, and that is empty', async () => {
    const session = await bench.open('plain "db" x=y')
    const parts = await capture(session)
    await remake('target')
    const target = await bench.open('target')
    await target.restore(parts, { replace: false }, never)
    expect((await target.verify(parts, never)).checks.every((each) => each.passed)).toBe(true)
  })

  test('what would change an old snapshot waits until the mark is released', async () => {
    await sql('odd', 'CREATE TABLE short AS SELECT generate_series(1, 50) n')
    const session = await bench.open('odd')
    const cut = newCut()
    await session.quiesce(cut, 5000, never)
    await session.mark(cut, never)
    await session.resume(cut)
    await expect(sql('odd', `SET lock_timeout = 100; TRUNCATE short`)).rejects.toThrow('lock timeout')
    await sql('odd', 'DELETE FROM short')
    const sink = new MemorySink()
    await session.capture(cut, sink, never)
    await session.release(cut)
    await sql('odd', 'TRUNCATE short')
    await remake('target')
    const target = await bench.open('target')
    await target.restore(sink.parts(), { replace: false }, never)
    expect(await sql('target', 'SELECT count(*) FROM short')).toBe('50')
    await session.close()
  })

  test('a dump that is cut short fails the capture, names it, and can be made again from the same mark', async () => {
    const session = await bench.open('odd')
    const cut = newCut()
    await session.mark(cut, never)
    const kill = new MemorySink()
    const sabotage = {
      directory: kill.directory.bind(kill),
      file: (name: string, content: AsyncIterable<Uint8Array>) =>
        kill.file(
          name,
          (async function* () {
            for await (const chunk of content) {
              yield chunk
              if (name === 'database.dump')
                await sql(
                  'postgres',
                  `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY %'`,
                )
            }
          })(),
        ),
    }
    await sql('odd', `CREATE TABLE big AS SELECT n, repeat('x', 2000) AS filler FROM generate_series(1, 20000) n`)
    const bigCut = newCut()
    await session.mark(bigCut, never)
    await expect(session.capture(bigCut, sabotage, never)).rejects.toMatchObject({
      name: 'Failure',
      message: expect.stringContaining('pg_dump'),
    })
    expect(kill.parts().names()).not.toContain('database.dump')
    const sink = new MemorySink()
    await session.capture(bigCut, sink, never)
    expect(sink.parts().names()).toContain('database.dump')
    // No password file is left, however the tools ended.
    expect((await readdir(bench.scratchDir)).filter((name) => name.startsWith('login-'))).toEqual([])
    await session.close()
    await sql('odd', 'DROP TABLE big')
  })

  test('the budget of a mark ends its capture, and the server ends the mark', async () => {
    const session = await bench.open('odd', { markBudgetMs: 1000 })
    const cut = newCut()
    await session.mark(cut, never)
    await new Promise((resolve) => setTimeout(resolve, 1200))
    await expect(session.capture(cut, new MemorySink(), never)).rejects.toMatchObject({
      code: expect.stringMatching(/^mark_(budget_spent|lost)$/),
    })
    expect(
      await sql(
        'odd',
        `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stillpoint' AND state <> 'idle'`,
      ),
    ).toBe('0')
    await session.close()
  })

  describe('a target that is not empty', () => {
    let parts: MemoryParts
    beforeAll(async () => {
      const session = await bench.open('odd')
      parts = await capture(session)
      await session.close()
    })
    const databases = () =>
      sql('postgres', `SELECT string_agg(datname, ',') FROM pg_database WHERE datname LIKE 'stillpoint%'`)

    test('is replaced while people are in it, keeping its owner and grants', async () => {
      await remake('target')
      await sql(
        'target',
        'CREATE TABLE stray (a int); GRANT CONNECT ON DATABASE target TO writer; REVOKE CONNECT ON DATABASE target FROM PUBLIC',
      )
      const visitor = new Client({ connectionString: bench.server.url('target') })
      visitor.on('error', () => undefined) // it is thrown out
      await visitor.connect()
      const target = await bench.open('target')
      await expect(target.checkTarget(parts, { replace: false }, never)).rejects.toMatchObject({
        code: 'target_not_empty',
      })
      await target.restore(parts, { replace: true }, never)
      expect((await target.verify(parts, never)).checks.every((each) => each.passed)).toBe(true)
      expect(
        await sql(
          'target',
          `SELECT to_regclass('stray') IS NULL, has_database_privilege('writer', 'target', 'CONNECT')`,
        ),
      ).toBe('t|t')
      expect(await databases()).toBe('')
    })

    test.each([
      ['a part that breaks off', (given: Parts) => broken(given, 'database.dump', 3000), 'restore_failed'],
      [
        'a damaged pack',
        (given: Parts) =>
          broken(given, 'database.dump', 3000, new Failure({ code: 'pack_damaged', message: 'x', hint: 'y' })),
        'pack_damaged',
      ],
      ['a damaged manifest', (given: Parts) => broken(given, 'manifest.json', 30), 'part_damaged'],
    ])('stays as it was after %s', async (_, damage, code) => {
      await remake('target')
      await sql('target', 'CREATE TABLE precious AS SELECT 42 AS answer')
      const target = await bench.open('target')
      await expect(target.restore(damage(parts), { replace: true }, never)).rejects.toMatchObject({ code })
      expect(await sql('target', 'SELECT answer FROM precious')).toBe('42')
      expect(await databases()).toBe('')
      await remake('target')
      await expect(target.restore(damage(parts), { replace: false }, never)).rejects.toMatchObject({ code })
      await target.checkTarget(parts, { replace: false }, never)
    })

    test('a role that may not create databases replaces object by object, and says so', async () => {
      await sql('postgres', `CREATE ROLE clerk LOGIN PASSWORD 'clerk'; CREATE DATABASE clerks OWNER clerk`)
      await sql('postgres', `CREATE DATABASE clerks_source OWNER clerk`)
      await sql(
        'clerks_source',
        `SET ROLE clerk; CREATE TABLE t AS SELECT generate_series(1, 5) n; CREATE SEQUENCE s; SELECT nextval('s')`,
      )
      const source = await bench.open('clerks_source', { user: 'clerk' }, 'clerk')
      const simple = await capture(source)
      const target = await bench.open('clerks', { user: 'clerk' }, 'clerk')
      await target.restore(simple, { replace: false }, never)
      await sql('clerks', 'DELETE FROM t')
      const report = await target.restore(simple, { replace: true }, never)
      expect(report.notes.join()).toContain('object by object')
      expect((await target.verify(simple, never)).checks.filter((each) => !each.passed)).toEqual([])
      await sql('clerks', 'CREATE TABLE stray ()')
      await expect(target.restore(simple, { replace: true }, never)).rejects.toMatchObject({
        code: 'target_not_empty',
        hint: expect.stringContaining('CREATEDB'),
      })
      await source.close()
    })

    test('a disk that is full is named, and leaves the target empty', async ({ skip }) => {
      const disk = await smallDisk(40 << 20)
      if (disk === undefined) return skip('this process may not mount a file system')
      await chmod(disk.path, 0o777)
      await using _ = disk
      await sql(
        'odd',
        `CREATE TABLE big AS SELECT n, md5(n::text) || repeat(md5(n::text), 30) AS filler FROM generate_series(1, 6000) n`,
      )
      const session = await bench.open('odd')
      const large = await capture(session)
      await session.close()
      await sql('odd', 'DROP TABLE big')
      const space = join(disk.path, 'space')
      await mkdir(space)
      const { uid, gid } = await stat(bench.server.dataDir)
      await chown(space, uid, gid)
      await sql('postgres', `CREATE TABLESPACE small LOCATION '${space}'`)
      await sql('postgres', 'CREATE DATABASE tight TABLESPACE small')
      const { bavail, bsize } = await statfs(disk.path)
      await writeFile(join(disk.path, 'ballast'), Buffer.alloc(bavail * bsize - (2 << 20)))
      const target = await bench.open('tight')
      await expect(target.restore(large, { replace: false }, never)).rejects.toMatchObject({ code: 'disk_full' })
      await target.checkTarget(large, { replace: false }, never)
      await sql('postgres', 'DROP DATABASE tight WITH (FORCE)')
      await sql('postgres', 'DROP TABLESPACE small')
    })
  })

  describe('what stands in the way is named', () => {
    const privileges = `
      CREATE ROLE backup LOGIN PASSWORD 'backup'; GRANT USAGE ON SCHEMA s TO backup;`
    beforeAll(async () => {
      await sql('postgres', 'CREATE DATABASE granted')
      await sql(
        'granted',
        `CREATE SCHEMA s; CREATE TABLE s.t (id serial PRIMARY KEY); INSERT INTO s.t DEFAULT VALUES; ${privileges}`,
      )
    })
    const openAs = () => bench.open('granted', { user: 'backup' }, 'backup')

    test('a wrong password, an unknown role, an unknown database, a server that is down', async () => {
      await expect(bench.open('odd', {}, 'wrong')).rejects.toMatchObject({ code: 'store_refused_password' })
      await expect(bench.open('odd', { user: 'nobody' })).rejects.toMatchObject({ code: 'store_refused_password' })
      await expect(bench.open('odd', { passwordFile: undefined })).rejects.toMatchObject({
        code: 'store_refused_password',
      })
      await expect(bench.open('absent')).rejects.toMatchObject({ code: 'store_database_unknown' })
      const port = await freePort()
      await expect(bench.open('odd', { port })).rejects.toMatchObject({ code: 'store_unreachable', retry: 'later' })
      await expect(bench.open('odd', { sslMode: 'require' })).rejects.toMatchObject({
        hint: expect.stringContaining('sslMode'),
      })
    })
    test('a tool that is missing, by its package', async () => {
      await expect(bench.open('odd', { toolsDir: bench.scratchDir })).rejects.toMatchObject({
        code: 'tool_missing',
        hint: expect.stringContaining('postgresql-client'),
      })
    })
    test('each privilege that is missing, until the documented ones are granted', async () => {
      await expect(openAs()).rejects.toMatchObject({
        code: 'store_privilege_missing',
        hint: expect.stringContaining('GRANT SELECT ON ALL TABLES'),
      })
      await sql('granted', 'GRANT SELECT ON ALL TABLES IN SCHEMA s TO backup')
      await expect(openAs()).rejects.toMatchObject({
        code: 'store_privilege_missing',
        hint: expect.stringContaining('GRANT UPDATE'),
      })
      await sql('granted', 'GRANT UPDATE ON ALL TABLES IN SCHEMA s TO backup')
      const session = await openAs()
      await expect(session.mark(newCut(), never)).rejects.toMatchObject({
        code: 'store_privilege_missing',
        message: expect.stringContaining('sequence'),
      })
      await sql('granted', 'GRANT SELECT ON ALL SEQUENCES IN SCHEMA s TO backup')
      const parts = await capture(session)
      expect(parts.names()).toContain('database.dump')
      await session.close()
    })
    test('row-level security that would hide rows', async () => {
      await sql('granted', 'ALTER TABLE s.t ENABLE ROW LEVEL SECURITY')
      await expect(openAs()).rejects.toMatchObject({
        code: 'store_privilege_missing',
        hint: expect.stringContaining('BYPASSRLS'),
      })
      await sql('granted', 'ALTER TABLE s.t DISABLE ROW LEVEL SECURITY')
    })
    test('roles that the target does not have are a note, not a failure', async () => {
      await sql('granted', 'CREATE ROLE gone; ALTER TABLE s.t OWNER TO gone')
      const session = await bench.open('granted')
      const parts = await capture(session)
      await session.close()
      await sql('granted', 'REASSIGN OWNED BY gone TO postgres; DROP OWNED BY gone; DROP ROLE gone')
      await remake('target')
      const target = await bench.open('target')
      expect((await target.restore(parts, { replace: false }, never)).notes.join()).toContain('gone')
      expect((await target.verify(parts, never)).checks.every((each) => each.passed)).toBe(true)
    })
    test('a server that is killed while the snapshot is copied', async () => {
      const session = await bench.open('odd')
      const cut = newCut()
      await session.mark(cut, never)
      await bench.server.kill()
      await expect(session.capture(cut, new MemorySink(), never)).rejects.toMatchObject({
        name: 'Failure',
        retry: 'later',
      })
      await session.close()
      await bench.server.restart()
      await capture(await bench.open('odd'))
    })
  })
})
