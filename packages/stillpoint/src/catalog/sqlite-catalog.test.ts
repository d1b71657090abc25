import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { isFailure } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import type { Catalog, Holder, OperationLease } from './catalog.ts'
import { type CatalogBench, catalogConformance } from './conformance.ts'
import { openSqliteCatalog } from './sqlite-catalog.ts'

const holder: Holder = { what: 'take', pid: process.pid, host: 'here', since: '2026-01-01T00:00:00Z' }

async function sqliteBench(wrap: (catalog: Catalog) => Catalog = (catalog) => catalog): Promise<CatalogBench> {
  const directory = mkdtempSync(join(tmpdir(), 'catalog-'))
  const opened: Catalog[] = []
  return {
    open: async () => {
      const catalog = openSqliteCatalog({ directory, note: () => {} })
      opened.push(catalog)
      return wrap(catalog)
    },
    stop: async () => {
      for (const catalog of opened) await catalog.close()
      rmSync(directory, { recursive: true })
    },
  }
}

function inDirectory(body: (directory: string) => Promise<void> | void): () => Promise<void> {
  return async () => {
    const directory = mkdtempSync(join(tmpdir(), 'catalog-'))
    try {
      await body(directory)
    } finally {
      rmSync(directory, { recursive: true })
    }
  }
}

describe('the embedded catalog', () => {
  catalogConformance({ test }, sqliteBench)
})

/** Everything as the catalog does it, except what `change` says. */
function broken(change: (catalog: Catalog) => Partial<Catalog>): (catalog: Catalog) => Catalog {
  return (catalog) => {
    const changed = change(catalog)
    return new Proxy(catalog, {
      get(target, key) {
        const value: unknown = Reflect.get(key in changed ? changed : target, key)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
  }
}

function withLease(change: (lease: OperationLease, catalog: Catalog) => Partial<OperationLease>) {
  return broken((catalog) => ({
    begin: async (system, who) => {
      const lease = await catalog.begin(system, who)
      const changed = change(lease, catalog)
      return new Proxy(lease, {
        get(target, key) {
          const value: unknown = Reflect.get(key in changed ? changed : target, key)
          return typeof value === 'function' ? value.bind(target) : value
        },
      })
    },
  }))
}

const canaries: Readonly<Record<string, (catalog: Catalog) => Catalog>> = {
  'hands out an epoch twice': withLease((lease) => ({
    nextEpoch: async () => ({ ...(await lease.nextEpoch()), epoch: 1 }),
  })),
  'drops records': withLease(() => ({ recordCut: async () => {} })),
  'takes any outcome': withLease((lease) => ({
    closeCut: (cut, outcome) => lease.closeCut(cut, outcome).catch(() => {}),
  })),
  'repeats tokens': withLease(() => ({ fencing: 1 })),
  'forgets the switch': withLease(() => ({
    switchRestore: async () => ({ restore: 'r1', snapshot: 's1', generation: 1, epoch: 99 }),
  })),
  'lowers counters': broken((catalog) => ({
    counters: async (system) => ({ ...(await catalog.counters(system)), epoch: 39 }),
  })),
  'completes any restore': broken((catalog) => ({
    pendingRestores: async (system) => (await catalog.pendingRestores(system)).slice(1),
  })),
  'keeps what was dropped': broken(() => ({ dropCachedSnapshots: async () => {} })),
}

describe('the suite finds broken catalogs', () => {
  test.each(Object.keys(canaries))('one that %s', async (name) => {
    const bodies: (() => Promise<void>)[] = []
    catalogConformance({ test: (_, body) => bodies.push(body) }, () => sqliteBench(canaries[name]))
    const results = await Promise.allSettled(bodies.map((body) => body()))
    expect(results.some(({ status }) => status === 'rejected')).toBe(true)
  })
})

describe('the file', () => {
  test(
    'a damaged catalog is moved aside, said, and replaced by an empty one',
    inDirectory(async (directory) => {
      const path = join(directory, 'catalog.sqlite')
      const first = openSqliteCatalog({ directory, note: () => {} })
      await first.raise('bank', { epoch: 7 })
      await first.close()
      writeFileSync(path, Buffer.alloc(8192, 0x5a))
      const notes: string[] = []
      const second = openSqliteCatalog({ directory, note: (text) => notes.push(text) })
      expect(await second.counters('bank')).toEqual({ generation: 1, epoch: 0, fencing: 0 })
      expect(notes).toHaveLength(1)
      expect(notes[0]).toContain('damaged')
      expect(readdirSync(directory).filter((name) => name.includes('.damaged-'))).not.toHaveLength(0)
      await second.close()
    }),
  )

  test(
    'a catalog that was cut short is damaged, not empty',
    inDirectory(async (directory) => {
      const path = join(directory, 'catalog.sqlite')
      const first = openSqliteCatalog({ directory, note: () => {} })
      await first.raise('bank', { epoch: 7 })
      await first.close()
      truncateSync(path, 8192)
      const notes: string[] = []
      const second = openSqliteCatalog({ directory, note: (text) => notes.push(text) })
      expect(notes).toHaveLength(1)
      await second.close()
    }),
  )

  test(
    'a catalog of a newer version is refused and left as it is',
    inDirectory(async (directory) => {
      await openSqliteCatalog({ directory, note: () => {} }).close()
      const database = new DatabaseSync(join(directory, 'catalog.sqlite'))
      database.exec('INSERT INTO migrations (version) VALUES (999)')
      database.close()
      const open = () => openSqliteCatalog({ directory, note: () => {} })
      expect(open).toThrow(expect.objectContaining({ code: 'catalog_version_unsupported' }))
      expect(readdirSync(directory)).toContain('catalog.sqlite')
    }),
  )

  test(
    'K2 an operation whose process was killed is over at once, and a busy system names who is at work',
    inDirectory(async (directory) => {
      const module = JSON.stringify(new URL('./sqlite-catalog.ts', import.meta.url).href)
      const program = `
        const { openSqliteCatalog } = await import(${module})
        const catalog = openSqliteCatalog({ directory: ${JSON.stringify(directory)}, note: () => {} })
        await catalog.begin('bank', { what: 'take', pid: process.pid, host: 'there', since: 'noon' })
        process.stdout.write('begun')
        setInterval(() => {}, 1000)`
      const child = spawn(process.execPath, ['--input-type=module', '--eval', program])
      await once(child.stdout, 'data')
      const catalog = openSqliteCatalog({ directory, note: () => {} })
      const error: unknown = await catalog.begin('bank', holder).catch((thrown: unknown) => thrown)
      expect(isFailure(error, 'system_busy') && error.message).toContain(`process ${child.pid} on there is at "take"`)
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
      const lease = await catalog.begin('bank', holder)
      expect(lease.fencing).toBe(2)
      await lease.end()
      await catalog.close()
    }),
  )

  test(
    'a system whose name leads elsewhere is refused',
    inDirectory(async (directory) => {
      const catalog = openSqliteCatalog({ directory, note: () => {} })
      await expect(catalog.begin('../bank', holder)).rejects.toMatchObject({ code: 'name_invalid' })
      await catalog.close()
    }),
  )
})
