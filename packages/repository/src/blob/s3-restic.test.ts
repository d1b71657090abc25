/** One repository on S3, used by the real restic and by us, in both directions and in turns. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hasSwift, type SwiftServer } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeSource } from '../testing/source-directory.ts'
import { fingerprint, hasTool, scratch, seeded, takeSnapshot } from '../testing/testbed.ts'
import { newRepositoryOn, repositoryOn, resticOn, type S3Place, startSwiftPlace } from './s3-testbed.ts'

describe.skipIf(!hasSwift() || !hasTool('restic'))('with restic on Swift [needs python3-swift, restic]', () => {
  let place: S3Place<SwiftServer>
  beforeAll(async () => {
    place = await startSwiftPlace()
  })
  afterAll(() => place?.stop())

  test('restic makes it and backs up; we check, restore, add and prune; restic agrees', async () => {
    const home = await scratch()
    const source = await makeSource(join(home, 'source'))
    const path = place.newPath()
    await resticOn(place, path, 'init', '--repository-version', '2')
    await resticOn(place, path, 'backup', source)
    const repository = await repositoryOn(place, path)
    expect((await repository.check({ readData: true })).problems).toEqual([])
    const theirs = await repository.findSnapshot('latest')
    await repository.loadDirectory(theirs.tree, join(home, 'restored'))
    expect(await fingerprint(join(home, 'restored', source))).toEqual(await fingerprint(source))
    await writeFile(join(source, 'below', 'large'), seeded(9).bytes(3_000_000))
    const ours = await takeSnapshot(repository, source)
    expect(await resticOn(place, path, 'check', '--read-data')).toContain('no errors were found')
    await repository.deleteSnapshot(theirs.id)
    await repository.upkeep.prune({ maxUnused: { kind: 'bytes', bytes: 0 } })
    expect(await resticOn(place, path, 'check', '--read-data')).toContain('no errors were found')
    const listed: unknown = JSON.parse(await resticOn(place, path, 'snapshots', '--json'))
    expect(listed).toMatchObject([{ id: ours.id }])
  })

  test('we make it; restic checks, restores, adds, forgets and prunes; we agree', async () => {
    const home = await scratch()
    const source = await makeSource(join(home, 'source'))
    const path = place.newPath()
    const repository = await newRepositoryOn(place, path)
    await takeSnapshot(repository, source)
    expect(await resticOn(place, path, 'check', '--read-data')).toContain('no errors were found')
    await resticOn(place, path, 'restore', 'latest', '--target', join(home, 'restored'))
    expect(await fingerprint(join(home, 'restored', 'files'))).toEqual(await fingerprint(source))
    await writeFile(join(source, 'more'), seeded(10).bytes(1_000_000))
    await resticOn(place, path, 'backup', source)
    await resticOn(place, path, 'forget', '--prune', '--keep-last', '1', '--group-by', '')
    const again = await repositoryOn(place, path)
    expect((await again.check({ readData: true })).problems).toEqual([])
    expect(await again.snapshots()).toHaveLength(1)
    // What we wrote was read by the one that opened it, too, before restic pruned: it must notice.
    await takeSnapshot(repository, source)
    expect(await resticOn(place, path, 'check', '--read-data')).toContain('no errors were found')
    expect(await resticOn(place, path, 'list', 'locks')).toBe('')
  })
})
