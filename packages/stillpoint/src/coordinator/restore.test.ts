import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Failure } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import type { SourceSession } from '../sources/source.ts'
import {
  accountsDigest,
  type BenchOptions,
  configText,
  quiet,
  recording,
  type SystemBench,
  startSystem,
  treeDigest,
} from './system-workbench.ts'

const request = { allowInconsistent: false, tags: [] }
const whole = { snapshot: 'latest', participants: [], replace: true, toConfig: null }

async function withSystem(options: BenchOptions, body: (bench: SystemBench) => Promise<void>): Promise<void> {
  const bench = await startSystem(options)
  try {
    await body(bench)
  } finally {
    await bench.stop()
  }
}

const digests = (bench: SystemBench) => [accountsDigest(bench.path('accounts.db')), treeDigest(bench.path('uploads'))]

function change(bench: SystemBench): void {
  const database = new DatabaseSync(bench.path('accounts.db'))
  database.exec('UPDATE account SET balance = balance + 1')
  database.close()
  writeFileSync(join(bench.path('uploads'), 'later'), 'later')
}

/** `restore` of one store throws while the fault is armed; everything else is the session's own. */
function failingRestore(target: string, error: () => Error | undefined) {
  return (name: string, session: SourceSession): SourceSession =>
    new Proxy(session, {
      get(inner, key) {
        const value: unknown = Reflect.get(inner, key)
        if (typeof value !== 'function') return value
        if (name !== target || key !== 'restore') return value.bind(inner)
        return async (...parameters: unknown[]) => {
          const thrown = error()
          if (thrown !== undefined) throw thrown
          return value.apply(inner, parameters)
        }
      },
    })
}

describe('a restore', () => {
  test('refuses targets that are not empty, all of them named, and changes none', () =>
    withSystem({}, async (bench) => {
      await bench.operations.take(request, quiet())
      change(bench)
      const before = digests(bench)
      const refused = bench.operations.restore({ ...whole, replace: false }, quiet())
      await expect(refused).rejects.toMatchObject({ code: 'target_not_empty' })
      await expect(refused).rejects.toThrow(/accounts.*uploads/s)
      expect(digests(bench)).toEqual(before)
      expect((await bench.operations.status(quiet())).generation).toBe(1)
    }))

  test('that fails at its first target leaves everything as it was, and the next take works', () =>
    withSystem(
      { wrap: failingRestore('accounts', () => new Failure({ code: 'injected', message: 'no', hint: 'Go.' })) },
      async (bench) => {
        await bench.operations.take(request, quiet())
        change(bench)
        const before = digests(bench)
        await expect(bench.operations.restore(whole, quiet())).rejects.toMatchObject({
          code: 'injected',
          message: expect.stringMatching(/before anything was replaced.*as before: uploads/s),
        })
        expect(digests(bench)).toEqual(before)
        await bench.operations.take(request, quiet())
      },
    ))

  test('that fails in the middle says what was replaced, takes no snapshot until it is made good, keeps the generation', () => {
    let error: Error | undefined = new Failure({ code: 'injected', message: 'no', hint: 'Go.' })
    return withSystem({ wrap: failingRestore('uploads', () => error) }, async (bench) => {
      await bench.operations.take(request, quiet())
      const [accounts] = digests(bench)
      change(bench)
      const [, uploads] = digests(bench)
      await expect(bench.operations.restore(whole, quiet())).rejects.toMatchObject({
        code: 'restore_incomplete',
        message: expect.stringMatching(
          /failed at "uploads".*Replaced already.*accounts.*"uploads" keeps its old state/s,
        ),
      })
      expect(digests(bench)).toEqual([accounts, uploads])
      expect((await bench.operations.status(quiet())).generation).toBe(1)
      const take = bench.operations.take(request, quiet())
      await expect(take).rejects.toMatchObject({
        code: 'restore_incomplete',
        hint: expect.stringContaining('--replace'),
      })
      error = undefined
      const restored = await bench.operations.restore(whole, quiet())
      expect(restored.generation).toBe(2)
      expect((await bench.operations.take(request, quiet())).generation).toBe(2)
    })
  })

  test('whose process died in the middle is found at the next start', () =>
    withSystem({}, async (bench) => {
      const { id } = await bench.operations.take(request, quiet())
      const lease = await bench.catalog.begin('bank', { what: 'restore', pid: 1, host: 'h', since: '' })
      const stores = bench.config.participants.map(({ name }) => name)
      const [first] = stores
      if (first === undefined) throw new Error('no store')
      await lease.beginRestore({ restore: 'r1', snapshot: id, ownTargets: true, stores })
      await lease.markTarget('r1', first, 'begun')
      await lease.end()
      const next = await bench.reopen()
      await expect(next.operations.take(request, quiet())).rejects.toMatchObject({
        code: 'restore_incomplete',
        message: expect.stringMatching(/was being replaced: accounts; as before: uploads/),
      })
      const { context, events } = recording()
      await next.operations.restore(whole, context)
      expect(events).toContainEqual(expect.objectContaining({ text: expect.stringContaining('interrupted') }))
      expect(await bench.catalog.openRestores('bank')).toEqual([])
      await next.operations.take(request, quiet())
    }))

  test('that is interrupted while it checks changes nothing', () =>
    withSystem({}, async (bench) => {
      await bench.operations.take(request, quiet())
      change(bench)
      const before = digests(bench)
      const controller = new AbortController()
      const onEvent = (event: { type: string; phase?: string }) => {
        if (event.phase === 'check') controller.abort(new Failure({ code: 'interrupted', message: 'Ctrl-C' }))
      }
      const restore = bench.operations.restore(whole, { signal: controller.signal, onEvent })
      await expect(restore).rejects.toMatchObject({ code: 'interrupted' })
      expect(digests(bench)).toEqual(before)
    }))

  test('of one participant names the damage, and only it is replaced', () =>
    withSystem({}, async (bench) => {
      await bench.operations.take(request, quiet())
      const [accounts] = digests(bench)
      change(bench)
      const [, uploads] = digests(bench)
      const restored = await bench.operations.restore({ ...whole, participants: ['accounts'] }, quiet())
      expect(digests(bench)).toEqual([accounts, uploads])
      expect(restored.participants.map(({ name }) => name)).toEqual(['accounts'])
      expect(restored.damage).toEqual([
        expect.stringMatching(/^broken link: what uploads refers to in accounts/),
        expect.stringMatching(/^orphan state: uploads keeps what was written since the cut/),
      ])
    }))

  test('refuses names that the snapshot, or the configuration, does not have', () =>
    withSystem({}, async (bench) => {
      await bench.operations.take(request, quiet())
      const unknown = bench.operations.restore({ ...whole, participants: ['nobody'] }, quiet())
      await expect(unknown).rejects.toMatchObject({ code: 'participant_unknown' })
      const less = await bench.reopen({ participants: '\n  accounts: { source: sqlite, path: accounts.db }' })
      await expect(less.operations.restore(whole, quiet())).rejects.toMatchObject({ code: 'target_missing' })
      const other = await bench.reopen({
        participants: '\n  accounts: { source: files, path: accounts }\n  uploads: { source: files, path: uploads }',
      })
      await expect(other.operations.restore(whole, quiet())).rejects.toMatchObject({ code: 'target_differs' })
    }))
})

describe('a restore into another system', () => {
  test('fills its stores, is a new generation there, and changes nothing here', () =>
    withSystem({}, async (bench) => {
      await bench.operations.take(request, quiet())
      const taken = digests(bench)
      change(bench)
      const here = digests(bench)
      const staging = bench.path('staging')
      mkdirSync(staging)
      const text = configText({}).replace(
        'path: repository, passwordFile: password',
        'path: ../repository, passwordFile: ../password',
      )
      writeFileSync(join(staging, 'stillpoint.yaml'), text)
      const toConfig = join(staging, 'stillpoint.yaml')
      const restored = await bench.operations.restore({ ...whole, replace: false, toConfig }, quiet())
      expect(restored.generation).toBe(2)
      expect(accountsDigest(join(staging, 'accounts.db'))).toBe(taken[0])
      expect(treeDigest(join(staging, 'uploads'))).toBe(taken[1])
      expect(digests(bench)).toEqual(here)
      expect((await bench.operations.status(quiet())).generation).toBe(1)
      await bench.operations.take(request, quiet())
    }))
})

describe('a catalog that was lost', () => {
  test.each(['missing', 'damaged'])('(%s) is built again from the repository', (how) =>
    withSystem({}, async (bench) => {
      const first = await bench.operations.take(request, quiet())
      await bench.operations.restore(whole, quiet())
      const second = await bench.operations.take(request, quiet())
      expect(second.generation).toBe(2)
      const token = second.certificate.plan.fencing
      await bench.operations.close()
      const path = join(bench.config.stateDir, 'catalog.sqlite')
      if (how === 'missing') rmSync(bench.config.stateDir, { recursive: true })
      else writeFileSync(path, Buffer.alloc(readFileSync(path).length, 7))
      const next = await bench.reopen()
      const listed = await next.operations.list(quiet())
      expect(listed.map(({ id }) => id)).toEqual([first.id, second.id])
      const third = await next.operations.take(request, quiet())
      expect(third.generation).toBe(2)
      expect(third.epoch).toBeGreaterThan(second.epoch)
      expect(third.certificate.plan.fencing).toBeGreaterThan(token)
    }),
  )
})

describe('diff and delete', () => {
  test('tell what changed, and remove one snapshot only', () =>
    withSystem({}, async (bench) => {
      const first = await bench.operations.take(request, quiet())
      change(bench)
      const second = await bench.operations.take(request, quiet())
      const { participants } = await bench.operations.diff(first.id, second.id, quiet())
      expect(participants.map(({ name, change: kind }) => [name, kind])).toEqual([
        ['accounts', 'changed'],
        ['uploads', 'changed'],
      ])
      const uploads = participants.find(({ name }) => name === 'uploads')
      expect(uploads?.entries.map(({ path, change: kind }) => [path, kind])).toEqual([['tree/later', 'added']])
      const same = await bench.operations.diff(second.id, second.id, quiet())
      expect(same.participants.every((participant) => participant.change === 'same')).toBe(true)
      await bench.operations.remove(first.id, quiet())
      expect((await bench.operations.list(quiet())).map(({ id }) => id)).toEqual([second.id])
      await expect(bench.operations.show(first.id, quiet())).rejects.toMatchObject({ code: 'snapshot_absent' })
      expect((await bench.operations.verify(second.id, quiet())).passed).toBe(true)
    }))
})
