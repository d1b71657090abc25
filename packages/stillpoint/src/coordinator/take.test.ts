import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, expect, test } from 'vitest'
import type { SourceSession } from '../sources/source.ts'
import {
  accountsDigest,
  isWritable,
  quiet,
  recording,
  type SystemBench,
  startSystem,
  treeDigest,
} from './system-workbench.ts'

async function withSystem(body: (bench: SystemBench) => Promise<void>, options = {}): Promise<void> {
  const bench = await startSystem(options)
  try {
    await body(bench)
  } finally {
    await bench.stop()
  }
}

const request = { allowInconsistent: false, tags: [] }

describe('a snapshot in one shot', () => {
  test('of a database and a directory is sealed, listed, shown, verified and restored', () =>
    withSystem(async (bench) => {
      const { context, events } = recording()
      const before = { accounts: accountsDigest(bench.path('accounts.db')), uploads: treeDigest(bench.path('uploads')) }
      const taken = await bench.operations.take(request, context)
      expect(taken.verdictReasons).toEqual([])
      expect(taken.verdict).toBe('consistent')
      expect(taken.participantDetails.map(({ name, grade }) => [name, grade])).toEqual([
        ['accounts', 'quiesced'],
        ['uploads', 'quiesced'],
      ])
      const phases = events.flatMap((event) => (event.type === 'phase' ? [event.phase] : []))
      expect(phases).toEqual(['plan', 'prepare', 'quiesce', 'mark', 'resume', 'capture', 'seal', 'release'])
      expect(isWritable(bench.path('accounts.db'))).toBe(true)
      const [listed] = await bench.operations.list(quiet())
      expect(listed?.id).toBe(taken.id)
      expect(await bench.operations.show(taken.id.slice(0, 8), quiet())).toEqual(taken)
      const verified = await bench.operations.verify(taken.id, quiet())
      expect(verified.checks.filter(({ passed }) => !passed)).toEqual([])
      expect(verified.passed).toBe(true)

      const database = new DatabaseSync(bench.path('accounts.db'))
      database.exec('UPDATE account SET balance = 7')
      database.close()
      writeFileSync(join(bench.path('uploads'), 'second'), 'two')
      const restore = { snapshot: 'latest', participants: [], replace: true, toConfig: null }
      const restored = await bench.operations.restore(restore, quiet())
      expect(restored.generation).toBe(2)
      expect(restored.damage).toEqual([])
      expect(accountsDigest(bench.path('accounts.db'))).toBe(before.accounts)
      expect(treeDigest(bench.path('uploads'))).toBe(before.uploads)
      const next = await bench.operations.take(request, quiet())
      expect(next.generation).toBe(2)
      expect(next.epoch).toBeGreaterThan(taken.epoch)
    }))

  test('C5 of a store whose mark has a caveat is refused, and kept only when that is allowed: as inconsistent', () => {
    const wrap = (name: string, session: SourceSession): SourceSession =>
      name !== 'accounts'
        ? session
        : new Proxy(session, {
            get(target, key) {
              const value: unknown = Reflect.get(target, key)
              if (key === 'mark') {
                return async (...parameters: Parameters<SourceSession['mark']>) => ({
                  ...(await target.mark(...parameters)),
                  caveats: ['it moved'],
                })
              }
              return typeof value === 'function' ? value.bind(target) : value
            },
          })
    return withSystem(
      async (bench) => {
        await expect(bench.operations.take(request, quiet())).rejects.toMatchObject({
          code: 'cut_inconsistent',
          message: expect.stringContaining('accounts: it moved'),
        })
        expect(await bench.operations.list(quiet())).toEqual([])
        const taken = await bench.operations.take({ ...request, allowInconsistent: true, tags: ['night'] }, quiet())
        expect(taken.verdict).toBe('inconsistent')
        expect(taken.verdictReasons).toEqual(['accounts: it moved'])
        const { passed, verdict } = await bench.operations.verify(taken.id, quiet())
        expect([passed, verdict]).toEqual([true, 'inconsistent'])
      },
      { wrap, attempts: 1 },
    )
  })

  test('refuses tags that mean something else', () =>
    withSystem(async (bench) => {
      for (const tag of ['system=shop', 'a,b', '', 'two words', 'x'.repeat(65)]) {
        const take = async () => bench.operations.take({ ...request, tags: [tag] }, quiet())
        await expect(take()).rejects.toMatchObject({ code: 'tag_invalid' })
      }
    }))
})
