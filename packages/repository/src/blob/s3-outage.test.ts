/** A storage node of the cluster dies while a backup runs, and comes back; connections that break. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hasSwift } from '@stillpoint/testbed'
import { describe, expect, onTestFinished, test } from 'vitest'
import { hasTool, scratch, seeded, takeSnapshot } from '../testing/testbed.ts'
import { newRepositoryOn, repositoryOn, resticOn, startS3Place } from './s3-testbed.ts'

describe.skipIf(!hasSwift() || !hasTool('restic'))('outages of Swift [needs python3-swift, restic]', () => {
  test('a storage node is killed while a backup runs: it ends well, and all is there', async () => {
    const place = await startS3Place()
    onTestFinished(() => place.stop())
    const source = join(await scratch(), 'source')
    await mkdir(source)
    const random = seeded(21)
    for (let at = 0; at < 12; at += 1) await writeFile(join(source, `file-${at}`), random.bytes(4_000_000))
    const path = place.newPath()
    const repository = await newRepositoryOn(place, path)
    const backup = takeSnapshot(repository, source)
    // In the middle: when the first packs are there.
    const looking = await place.open(path)
    while ((await looking.list('pack')).length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    await place.swift.storage[0]?.kill()
    const atTheKill = (await looking.list('pack')).length
    const { id } = await backup
    expect((await looking.list('pack')).length).toBeGreaterThan(atTheKill)
    // With the node still dead; the lists of those that live have what was under way when it died.
    await place.swift.replicate()
    const again = await repositoryOn(place, path)
    expect((await again.snapshots()).map((snapshot) => snapshot.id)).toEqual([id])
    expect((await again.check({ readData: true })).problems).toEqual([])
    expect(await resticOn(place, path, 'check', '--read-data')).toContain('no errors were found')
  })
})
