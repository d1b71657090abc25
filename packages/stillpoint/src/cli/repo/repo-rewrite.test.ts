/** Host and time of snapshots corrected, with the real restic as the judge. */
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { hasRestic, makeBench, type RepoBench } from './repo-workbench.ts'

let bench: RepoBench
const benches: RepoBench[] = []
beforeEach(async () => {
  bench = await makeBench()
  benches.push(bench)
})
afterEach(() => vi.unstubAllEnvs())
afterAll(() => Promise.all(benches.map((each) => each.remove())))

interface Listed {
  readonly id: string
  readonly hostname: string
  readonly time: string
  readonly tree: string
  readonly tags?: readonly string[]
  readonly original?: string
  readonly paths: readonly string[]
}

async function listedByRestic(): Promise<readonly Listed[]> {
  const [snapshots] = (await bench.resticJson('snapshots')) as [readonly Listed[]]
  return snapshots
}

const byTime = (one: Listed, other: Listed) => Date.parse(one.time) - Date.parse(other.time)

describe.skipIf(!hasRestic)('rewrite [needs restic]', () => {
  test('--new-host and --new-time: as restic lists it; the old one stays, the new one is tagged', async () => {
    vi.stubEnv('TZ', 'America/New_York')
    await bench.restic('backup', 'source', '--host', 'wrong', '--tag', 'kept', '--time', '2024-05-06 07:08:09')
    const [before] = await listedByRestic()
    const times = ['--new-host', 'right', '--new-time', '2020-02-03 04:05:06']
    const lines = await bench.json('rewrite', ...times)
    const listed = [...(await listedByRestic())].sort(byTime)
    const [after] = listed
    expect(listed).toHaveLength(2)
    expect(listed[1]).toEqual(before)
    expect(after).toMatchObject({ hostname: 'right', tags: ['kept', 'rewrite'], original: before?.id })
    expect(Date.parse(after?.time ?? '')).toBe(Date.UTC(2020, 1, 3, 9, 5, 6))
    expect([after?.tree, after?.paths]).toEqual([before?.tree, before?.paths])
    const [id, newId] = [before?.id, after?.id]
    expect(lines).toEqual([
      {
        message_type: 'rewritten',
        snapshot_id: id,
        new_snapshot_id: newId,
        excluded: [],
        hostname: 'right',
        time: '2020-02-03T09:05:06Z',
      },
      { message_type: 'summary', rewritten_snapshots: 1, dry_run: false },
    ])
    expect(await bench.restic('check', '--read-data')).toContain('no errors were found')
  })

  test('--forget replaces the old one, keeps its tags, and names the one before it', async () => {
    await bench.ok('backup', 'source', '--host', 'wrong', '--tag', 'kept')
    const [first] = await listedByRestic()
    expect(await bench.ok('rewrite', '--new-host', 'half right', '--forget')).toMatch(
      /^snapshot [0-9a-f]{8}: [0-9a-f]{8} has host half right\nrewrote 1 snapshot\n$/,
    )
    const [second] = await listedByRestic()
    expect(second?.original).toBe(first?.id)
    await bench.ok('rewrite', 'latest', '--new-time', '2020-02-03 04:05:06', '--forget')
    const listed = await listedByRestic()
    expect(listed).toHaveLength(1)
    expect(listed[0]).toMatchObject({ hostname: 'half right', tags: ['kept'], original: second?.id, tree: first?.tree })
    expect(listed[0]?.time).toBe('2020-02-03T04:05:06Z')
  })

  test('with --exclude: one new snapshot has both, also of those that have nothing that matches', async () => {
    await bench.ok('backup', 'source', '--host', 'with')
    await bench.ok('backup', 'source/below/deeper', '--host', 'without')
    const told = await bench.ok('rewrite', '--exclude', '*.log', '--new-host', 'both')
    expect(told).toMatch(/: [0-9a-f]{8} leaves out 1 path, has host both\n/)
    expect(told).toMatch(/: [0-9a-f]{8} has host both\n/)
    const listed = (await listedByRestic()).filter(({ tags }) => tags?.includes('rewrite'))
    expect(listed.map(({ hostname }) => hostname)).toEqual(['both', 'both'])
    for (const { id } of listed) expect(await bench.restic('ls', id)).not.toContain('b.log')
    expect(await bench.restic('check', '--read-data')).toContain('no errors were found')
    // Again: they are so already, and only the two old ones are written anew.
    expect(await bench.ok('rewrite', '--exclude', '*.log', '--new-host', 'both')).toContain('rewrote 2 snapshots')
  })

  test('--dry-run says it, and changes nothing; what is so already stays as it is', async () => {
    await bench.ok('backup', 'source', '--host', 'here', '--time', '2020-02-03 04:05:06')
    const before = await listedByRestic()
    const same = ['--new-host', 'here', '--new-time', '2020-02-03 04:05:06']
    expect(await bench.ok('rewrite', ...same)).toBe('no snapshot changes by that\n')
    const dry = ['rewrite', '--new-host', 'there', '--exclude', '*.txt', '--forget', '--dry-run']
    expect(await bench.ok(...dry)).toMatch(
      /: would leave out 2 paths, would have host there\nrewrote 1 snapshot\nnothing was changed \(dry run\)\n$/,
    )
    const [told] = await bench.json(...dry)
    expect(told).toMatchObject({ new_snapshot_id: null, hostname: 'there' })
    expect(await listedByRestic()).toEqual(before)
  })

  test('2 for what cannot be meant', async () => {
    await bench.ok('backup', 'source')
    const before = await listedByRestic()
    const wrong: readonly (readonly string[])[] = [
      [],
      ['--new-host', ''],
      ['--new-time', ''],
      ['--new-time', '2020-02-30 04:05:06'],
      ['--new-time', '2020-02-03'],
      ['--new-time', '2020-02-03T04:05:06Z'],
      ['--exclude', '*.log', '--new-time', 'yesterday'],
    ]
    for (const args of wrong) expect([args, (await bench.ours('rewrite', ...args)).code]).toEqual([args, 2])
    expect(await listedByRestic()).toEqual(before)
  })
})
