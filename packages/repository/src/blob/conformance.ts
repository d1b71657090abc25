/**
 * Owns the tests that every `BlobStore` must pass, given to any test runner. They say in code what blob-store.ts says
 * in words. They need a store that is empty and may be written to.
 */
import { AssertionError, deepEqual, equal, ok, rejects } from 'node:assert/strict'
import { isFailure } from '@stillpoint/core/kernel'
import { sha256 } from '../format/ids.ts'
import { type BlobStore, configObject, listAll, type ObjectKind, type ObjectName } from './blob-store.ts'

/** What the suite needs of a test runner: `test` of Vitest and of `node:test` both fit. */
export interface ConformanceApi {
  test(name: string, body: () => Promise<void>): void
}

export interface StoreUnderTest {
  readonly store: BlobStore
  /** The same place, opened anew, as after a restart of the program. */
  reopen(): Promise<BlobStore>
  dispose(): Promise<void>
}

const kinds: readonly ObjectKind[] = ['key', 'lock', 'snapshot', 'index', 'pack']
const contentOf = (text: string) => Buffer.from(text.repeat(100))
const objectOf = (kind: ObjectKind, text: string): ObjectName => ({ kind, name: sha256(contentOf(text)) })
const failsWith = (code: string) => (error: unknown) => isFailure(error, code)

/** More than some stores list at once. Returns their names in order. */
async function putMany(store: BlobStore, kind: ObjectKind): Promise<string[]> {
  const texts = Array.from({ length: 20 }, (_, at) => `many ${at}`)
  await Promise.all(texts.map((text) => store.put(objectOf(kind, text), contentOf(text))))
  return texts.map((text) => objectOf(kind, text).name).sort()
}

type Check = (subject: StoreUnderTest) => Promise<void>

const checks: Readonly<Record<string, Check>> = {
  'what is put can be got, whole and after reopening': async ({ store, reopen }) => {
    for (const kind of kinds) equal(await store.put(objectOf(kind, kind), contentOf(kind)), 'created')
    equal(await store.put(configObject, contentOf('config')), 'created')
    for (const reader of [store, await reopen()]) {
      for (const kind of kinds) deepEqual(await reader.get(objectOf(kind, kind)), contentOf(kind))
      deepEqual(await reader.get(configObject), contentOf('config'))
    }
  },
  'empty and large objects keep their bytes': async ({ store }) => {
    const large = Buffer.alloc(3_000_017, (await import('node:crypto')).randomBytes(4099))
    for (const bytes of [Buffer.alloc(0), large]) {
      const object: ObjectName = { kind: 'pack', name: sha256(bytes) }
      await store.put(object, bytes)
      ok((await store.get(object)).equals(bytes), 'bytes differ')
      equal(await store.size(object), bytes.length)
    }
  },
  'put is create-only': async ({ store }) => {
    const object = objectOf('index', 'first')
    equal(await store.put(object, contentOf('first')), 'created')
    equal(await store.put(object, contentOf('other')), 'exists')
    deepEqual(await store.get(object), contentOf('first'))
  },
  'of concurrent puts of one name exactly one creates': async ({ store, reopen }) => {
    const writers = [store, store, await reopen(), await reopen()]
    const outcomes = await Promise.all(writers.map((writer, at) => writer.put(configObject, contentOf(`writer ${at}`))))
    equal(outcomes.filter((outcome) => outcome === 'created').length, 1)
    deepEqual(await store.get(configObject), contentOf(`writer ${outcomes.indexOf('created')}`))
  },
  'ranges are exact': async ({ store }) => {
    const object = objectOf('pack', 'ranged')
    const bytes = contentOf('ranged')
    await store.put(object, bytes)
    for (const [offset, length] of [
      [0, 1],
      [5, 100],
      [0, bytes.length],
      [bytes.length - 3, 3],
      [7, 0],
    ] as const) {
      deepEqual(await store.get(object, { offset, length }), bytes.subarray(offset, offset + length))
    }
  },
  'a range beyond the end is a named error': async ({ store }) => {
    const object = objectOf('pack', 'short')
    await store.put(object, contentOf('short'))
    const { length } = contentOf('short')
    await rejects(store.get(object, { offset: length - 1, length: 2 }), failsWith('object_damaged'))
    await rejects(store.get(object, { offset: length + 10, length: 1 }), failsWith('object_damaged'))
  },
  'what is absent is a named error': async ({ store }) => {
    for (const object of [...kinds.map((kind) => objectOf(kind, 'absent')), configObject]) {
      await rejects(store.get(object), failsWith('object_missing'))
      await rejects(store.delete(object), failsWith('object_missing'))
      equal(await store.size(object), undefined)
    }
  },
  'list has all objects of the kind, with sizes, and nothing else': async ({ store }) => {
    const texts = ['a', 'bb', 'ccc', 'dddd']
    for (const kind of kinds)
      for (const text of texts) await store.put(objectOf(kind, kind + text), contentOf(kind + text))
    for (const kind of kinds) {
      const expected = texts.map((text) => [objectOf(kind, kind + text).name, contentOf(kind + text).length])
      const listed = (await listAll(store, kind)).map((object) => [object.name, object.bytes])
      deepEqual(listed.sort(), expected.sort())
    }
    deepEqual(await listAll(store, 'config'), [])
    await store.put(configObject, contentOf('config'))
    deepEqual(await listAll(store, 'config'), [{ name: 'config', bytes: contentOf('config').length }])
  },
  'a list begins anew each time, whatever became of others': async ({ store }) => {
    const names = await putMany(store, 'snapshot')
    for await (const batch of store.list('snapshot')) if (batch.length > 0) break
    const [one, other] = [store.list('snapshot'), store.list('snapshot')].map((list) => list[Symbol.asyncIterator]())
    const found: string[][] = [[], []]
    // By turns, as when two parts of a program list at the same time.
    for (const iterators = [one, other]; iterators.some((iterator) => iterator !== undefined); ) {
      for (const [at, iterator] of iterators.entries()) {
        const next = await iterator?.next()
        if (next?.done === false) found[at]?.push(...next.value.map(({ name }) => name))
        else iterators[at] = undefined
      }
    }
    for (const listed of found) deepEqual(listed.sort(), names)
  },
  'what is deleted while it is listed hides nothing else, and nothing comes twice': async ({ store }) => {
    const names = await putMany(store, 'snapshot')
    const found: string[] = []
    for await (const batch of store.list('snapshot')) {
      for (const { name } of batch) {
        found.push(name)
        await store.delete({ kind: 'snapshot', name })
      }
    }
    deepEqual(found.sort(), names)
    deepEqual(await listAll(store, 'snapshot'), [])
  },
  'what is deleted is gone, also after reopening': async ({ store, reopen }) => {
    const [kept, deleted] = [objectOf('snapshot', 'kept'), objectOf('snapshot', 'deleted')]
    await store.put(kept, contentOf('kept'))
    await store.put(deleted, contentOf('deleted'))
    await store.delete(deleted)
    for (const reader of [store, await reopen()]) {
      await rejects(reader.get(deleted), failsWith('object_missing'))
      deepEqual(
        (await listAll(reader, 'snapshot')).map((object) => object.name),
        [kept.name],
      )
    }
    equal(await store.put(deleted, contentOf('deleted')), 'created')
  },
  'buffers are not shared with the store': async ({ store }) => {
    const object = objectOf('key', 'owned')
    const given = contentOf('owned')
    await store.put(object, given)
    given.fill(0)
    const got = await store.get(object)
    deepEqual(got, contentOf('owned'))
    got.fill(0)
    deepEqual(await store.get(object), contentOf('owned'))
  },
  'prepare and sweep lose nothing': async ({ store }) => {
    const object = objectOf('pack', 'stays')
    await store.put(object, contentOf('stays'))
    await store.prepare()
    await store.sweep()
    deepEqual(await store.get(object), contentOf('stays'))
  },
}

/** Registers the suite. `open` gives an empty place, prepared or not, for each test. */
export function describeBlobStore(api: ConformanceApi, open: () => Promise<StoreUnderTest>): void {
  for (const [name, check] of Object.entries(checks)) api.test(name, () => runCheck(check, open))
}

async function runCheck(check: Check, open: () => Promise<StoreUnderTest>): Promise<void> {
  const subject = await open()
  try {
    await subject.store.prepare()
    await check(subject)
  } finally {
    await subject.dispose()
  }
}

/** Names of the checks that a store does not pass: empty for a sound one. */
export async function failedChecks(open: () => Promise<StoreUnderTest>): Promise<string[]> {
  const failed: string[] = []
  for (const [name, check] of Object.entries(checks)) {
    try {
      await runCheck(check, open)
    } catch (error) {
      if (!(error instanceof AssertionError) && !isFailure(error)) throw error
      failed.push(name)
    }
  }
  return failed
}
