import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Repository, type TreeEntry, timestampFromMs } from '@stillpoint/repository'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { certificateFile, readDocument, summaryFile } from '../agent/snapshot-layout.ts'
import type { SnapshotDetail } from './operations.ts'
import { cutTag, snapshotTag, systemTag } from './seal.ts'
import { accountsDigest, quiet, recording, type SystemBench, startSystem, treeDigest } from './system-workbench.ts'

const request = { allowInconsistent: false, tags: [] }

describe('verify', () => {
  let bench: SystemBench
  let taken: SnapshotDetail
  let repository: Repository

  beforeAll(async () => {
    bench = await startSystem()
    taken = await bench.operations.take(request, quiet())
  })
  beforeEach(async () => {
    repository = await bench.repository()
  })
  afterAll(() => bench.stop())

  /** The same snapshot, sealed again with one of its documents changed: by somebody who has the password. */
  async function resealed(path: string, change: (text: string) => string): Promise<string> {
    const { tree } = await repository.findSnapshot(taken.id)
    const text = (await readDocument(repository, tree, { path, bytesMax: 1 << 20 })).toString()
    const changed = Buffer.from(change(text))
    expect(changed.toString()).not.toBe(text)
    const save = await repository.startSave()
    const { content, bytes } = await save.saveBytes(changed)
    const nodes = await repository.readTree(tree)
    const entries = nodes.map((node): TreeEntry => {
      return node.name === path && node.type === 'file' ? { ...node, bytes, content } : node
    })
    const root = await save.saveTree(entries)
    await save.finish()
    const tags = [snapshotTag, systemTag('bank'), cutTag(taken.cut)]
    const time = timestampFromMs(Date.now())
    return repository.seal({ tree: root, time, paths: ['/'], hostname: 'h', username: 'u', tags })
  }

  async function failedChecks(id: string): Promise<readonly string[]> {
    const result = await bench.operations.verify(id, quiet())
    const failed = result.checks.filter(({ passed }) => !passed).map(({ name }) => name)
    expect(result.passed).toBe(failed.length === 0)
    return failed
  }

  test('passes what was taken, and counts what it read', async () => {
    const result = await bench.operations.verify(taken.id, quiet())
    expect(result.passed).toBe(true)
    expect(result.bytesRead).toBeGreaterThanOrEqual(taken.bytes)
  })

  test.each([
    ['a hold that was broken', '"unbroken": true', '"unbroken": false', ['certificate digest', 'verdict']],
    ['another epoch', '"epoch": 1', '"epoch": 2', ['certificate digest', 'plan digest', 'plan', 'cut']],
    ['a longer pause', /"heldMs": [\d.]+/, '"heldMs": 123456', ['certificate digest', 'pause']],
    ['another mark', /"markedAtMs": [\d.]+/, '"markedAtMs": 1', ['certificate digest']],
  ])('finds %s in a certificate that was changed and sealed again', async (_, from, to, checks) => {
    const id = await resealed(certificateFile, (text) => text.replace(from, to))
    expect(await failedChecks(id)).toEqual(checks)
  })

  test('finds a certificate that is none', async () => {
    const id = await resealed(certificateFile, (text) => text.replace('"steps"', '"stops"'))
    expect(await failedChecks(id)).toEqual(['certificate is readable'])
  })

  test('finds a better verdict than the evidence gives', async () => {
    const id = await resealed(summaryFile, (text) => text.replace('"inFlight": 0', '"inFlight": 3'))
    expect(await failedChecks(id)).toEqual(['messages in flight'])
    const verdict = await resealed(summaryFile, (text) =>
      text.replace('"kind": "consistent"', '"kind": "crash-consistent"'),
    )
    expect(await failedChecks(verdict)).toEqual(['verdict'])
  })

  test('a snapshot whose documents cannot be read is said in the list, and hides no other', async () => {
    const id = await resealed(summaryFile, () => 'no json')
    const { context, events } = recording()
    const listed = await bench.operations.list(context)
    expect(listed.map((snapshot) => snapshot.id)).toContain(taken.id)
    expect(listed.map((snapshot) => snapshot.id)).not.toContain(id)
    expect(events).toContainEqual(expect.objectContaining({ text: expect.stringContaining(id.slice(0, 8)) }))
    await repository.deleteSnapshot((await repository.findSnapshot(id)).id)
  })

  test('snapshots of other programs and systems are not listed, and are refused by name', async () => {
    const save = await repository.startSave()
    const root = await save.saveTree([])
    await save.finish()
    const common = { tree: root, time: timestampFromMs(Date.now()), paths: ['/'], hostname: 'h', username: 'u' }
    const foreign = await repository.seal(common)
    const other = await repository.seal({ ...common, tags: [snapshotTag, systemTag('shop')] })
    const listed = (await bench.operations.list(quiet())).map(({ id }) => id)
    expect(listed).not.toContain(foreign)
    expect(listed).not.toContain(other)
    for (const id of [foreign, other]) {
      await expect(bench.operations.show(id, quiet())).rejects.toMatchObject({ code: 'snapshot_absent' })
    }
  })

  test('finds a flipped byte in a pack, and a restore from it changes nothing', async () => {
    const packs = join(bench.path('repository'), 'data')
    const [found] = readdirSync(packs, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .map((path) => ({ path, bytes: readFileSync(path) }))
      .toSorted((a, b) => b.bytes.length - a.bytes.length)
    if (found === undefined) throw new Error('no pack')
    const { path, bytes } = found
    const before = [accountsDigest(bench.path('accounts.db')), treeDigest(bench.path('uploads'))]
    // The end of a pack is its header, which nobody reads who has the index.
    const end = bytes.length - 500
    for (let at = 20; at < end; at += Math.ceil(end / 8)) {
      const flipped = Buffer.from(bytes)
      flipped[at] = (flipped[at] ?? 0) ^ 0x10
      writeFileSync(path, flipped)
      const result = await bench.operations.verify(taken.id, quiet())
      expect(result.passed, `byte ${at}`).toBe(false)
      expect(result.checks.find(({ name }) => name === 'data is whole')?.detail).toContain('is damaged')
      const restore = { snapshot: taken.id, participants: [], replace: true, toConfig: null }
      await expect(bench.operations.restore(restore, quiet())).rejects.toMatchObject({
        code: expect.stringMatching(/^(snapshot|object)_damaged$/),
      })
    }
    writeFileSync(path, bytes)
    expect([accountsDigest(bench.path('accounts.db')), treeDigest(bench.path('uploads'))]).toEqual(before)
    expect((await bench.operations.verify(taken.id, quiet())).passed).toBe(true)
  })
})
