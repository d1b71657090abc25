/** Snapshots that are written anew keep what is in them; after a rewriting, the summary says what is there now. */
import { describe, expect, test } from 'vitest'
import { openMemoryStore } from '../blob/memory-store.ts'
import { snapshotId } from '../format/ids.ts'
import { jsonText, parseJson } from '../format/json.ts'
import { unknownSummary } from '../format/snapshot-summary.ts'
import { initRepository, openRepository, openVault } from '../repository.ts'
import { inMemory, openMemory } from '../testing/prunable.ts'
import { clock, entropy, password, scryptCost, world } from '../testing/testbed.ts'
import { readDocument, writeDocument } from '../vault.ts'

/** What a later restic, or another program, may have written: numbers beyond 2^53, offsets, fields that we do not know. */
const foreign =
  '"summary":{"backup_start":"2026-11-21T20:38:32.580398358+01:00","files_new":9007199254740993,' +
  '"total_bytes_processed":18446744073709551615,"later":{"exact":18446744073709551615}},' +
  '"label":"<ours>","delete":{"After":"2027-01-01T00:00:00+01:00"},"numbers":[9007199254740993,-0.5,null]'

/** A repository with one snapshot, which has these fields besides. */
async function withFields(more: string) {
  const { objects } = await inMemory()
  const vault = await openVault({ store: openMemoryStore(objects), password, ...world })
  const [newest, ...others] = (await (await openMemory(objects)).snapshots()).toReversed()
  if (newest === undefined) throw new Error('no snapshot')
  const text = (id: string) => readDocument(vault, { kind: 'snapshot', name: snapshotId(id) }, (json) => json)
  const document = `${(await text(newest.id)).slice(0, -1)}${more === '' ? '' : `,${more}`}}`
  const id = snapshotId(await writeDocument(vault, 'snapshot', document))
  for (const { id: other } of [newest, ...others]) await vault.store.delete({ kind: 'snapshot', name: other })
  return { objects, id, document, text, repository: await openMemory(objects) }
}

const fieldsOf = (json: string) => Object(parseJson(json)) as Record<string, unknown>
/** The text of each field, as it is in the document. */
const textsOf = (json: string) =>
  Object.fromEntries(Object.entries(fieldsOf(json)).map(([name, value]) => [name, jsonText(value)]))

describe('kept are all fields, also those that we do not know', () => {
  test('by tag, in restic’s order', async () => {
    const { repository, document, id, text } = await withFields(foreign)
    const [tagged] = await repository.upkeep.tag({ snapshots: await repository.snapshots(), add: ['more'] })
    const after = await text(tagged?.newId ?? '')
    expect(textsOf(after)).toEqual({ ...textsOf(document), tags: '["test","more"]', original: `"${id}"` })
    expect(Object.keys(fieldsOf(after)).slice(-6)).toEqual([
      'original',
      'program_version',
      'summary',
      'label',
      'delete',
      'numbers',
    ])
    expect((await repository.snapshots())[0]?.summary).toEqual({
      ...unknownSummary,
      backupStart: 1_795_289_912_580_398_358n,
      filesNew: 9_007_199_254_740_993n,
      totalBytesProcessed: 18_446_744_073_709_551_615n,
    })
  })

  test('by copy, without the parent, which is not there', async () => {
    const parent = `"parent":"${'ab'.repeat(32)}",${foreign}`
    const { repository, document, id } = await withFields(parent)
    const objects = new Map<string, Buffer>()
    const store = openMemoryStore(objects)
    await initRepository({ store, password, entropy, clock, scryptCost })
    const target = await openMemory(objects)
    const [copied] = await target.upkeep.copyFrom(repository, { snapshots: await repository.snapshots() })
    const vault = await openVault({ store, password, ...world })
    const name = snapshotId(copied?.id ?? '')
    const after = await readDocument(vault, { kind: 'snapshot', name }, (json) => json)
    const { parent: _, ...kept } = textsOf(document)
    expect(textsOf(after)).toEqual({ ...kept, original: `"${id}"` })
  })

  test('by rewrite with another host, which names the one before as its original', async () => {
    const { repository, document, id, text } = await withFields(foreign)
    const [first] = await repository.upkeep.rewrite({ snapshots: await repository.snapshots(), hostname: 'other' })
    const expected = { ...textsOf(document), hostname: '"other"', tags: '["test","rewrite"]' }
    expect(textsOf(await text(first?.newId ?? ''))).toEqual({ ...expected, original: `"${id}"` })
    const again = (await repository.snapshots()).filter((snapshot) => snapshot.id === first?.newId)
    const [second] = await repository.upkeep.rewrite({ snapshots: again, hostname: 'third', forget: true })
    expect(textsOf(await text(second?.newId ?? ''))['original']).toBe(`"${first?.newId}"`)
  })

  test('by repair', async () => {
    const { objects, document, id } = await withFields(foreign)
    const outcomes: string[] = []
    for (const victim of [...objects.keys()].filter((key) => key.startsWith('pack/'))) {
      const copy = new Map(objects)
      copy.delete(victim)
      const store = openMemoryStore(copy)
      const repository = await openRepository({ store, password, ...world, forRepair: true })
      await repository.upkeep.repairIndex()
      const [repaired] = await repository.upkeep.repairSnapshots()
      outcomes.push(repaired?.outcome ?? '')
      if (repaired?.newId === undefined) continue
      const vault = await openVault({ store, password, ...world })
      const after = await readDocument(vault, { kind: 'snapshot', name: repaired.newId }, (json) => json)
      const { tree: _, ...kept } = textsOf(document)
      expect(textsOf(after)).toMatchObject({ ...kept, tags: '["test","repaired"]', original: `"${id}"` })
    }
    expect(outcomes).toContain('repaired')
  })
})

describe('rewrite', () => {
  const files = 7
  test('says how many files and bytes are left, and keeps the rest of the summary', async () => {
    const { repository, document, text } = await withFields(foreign)
    const snapshots = await repository.snapshots()
    const { totalBytes } = await repository.upkeep.stats({ mode: 'restore-size', snapshots })
    const exclude = (path: string) => path === '/files/below'
    const [rewritten] = await repository.upkeep.rewrite({ snapshots, exclude })
    const after = await text(rewritten?.newId ?? '')
    const before = Object(fieldsOf(document)['summary'])
    expect(fieldsOf(after)['summary']).toEqual({
      ...before,
      total_files_processed: files - 1,
      total_bytes_processed: totalBytes - 'turn 2 '.length * 300,
    })
    // Again: nothing is left to be left out.
    const same = (await repository.snapshots()).filter(({ tags }) => tags.includes('rewrite'))
    expect(await repository.upkeep.rewrite({ snapshots: same, exclude })).toMatchObject([{ isChanged: false }])
    expect(await repository.upkeep.rewrite({ snapshots: same, withSummary: true })).toMatchObject([
      { isChanged: false },
    ])
  })

  test('with a summary: those that have none, or another size, get one; nothing else changes', async () => {
    const { repository, document, id, text } = await withFields('')
    const snapshots = await repository.snapshots()
    const { totalBytes } = await repository.upkeep.stats({ mode: 'restore-size', snapshots })
    const nothing = () => false
    expect(await repository.upkeep.rewrite({ snapshots, exclude: nothing })).toMatchObject([{ isChanged: false }])
    const dry = await repository.upkeep.rewrite({ snapshots, withSummary: true, dryRun: true })
    const totals = { files: BigInt(files), bytes: BigInt(totalBytes) }
    expect(dry).toEqual([{ id, isChanged: true, isAnyIncluded: true, newId: undefined, excluded: [], totals }])
    const [rewritten] = await repository.upkeep.rewrite({ snapshots, withSummary: true, forget: true })
    const [after, ...others] = await repository.snapshots()
    expect(others).toEqual([])
    expect(after?.summary).toEqual({
      ...unknownSummary,
      totalFilesProcessed: BigInt(files),
      totalBytesProcessed: BigInt(totalBytes),
    })
    const { summary: _, ...rest } = textsOf(await text(rewritten?.newId ?? ''))
    expect(rest).toEqual({ ...textsOf(document), original: `"${id}"` })
    expect(await repository.upkeep.rewrite({ snapshots: [after ?? never()], withSummary: true })).toMatchObject([
      { isChanged: false },
    ])
  })
})

function never(): never {
  throw new Error('there is one')
}
