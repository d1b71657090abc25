/** Looking after a repository with `stillpoint repo`, beside the real restic; exit codes and environment. */
import { chmod, readdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newerResticName, restics } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeBench, type RepoBench } from './repo-workbench.ts'

interface GroupJson {
  readonly reasons: readonly { readonly snapshot: Readonly<Record<string, unknown>>; readonly matches: unknown }[]
}

/** The line of JSON. */
const letters = (text: string) => text.slice(text.indexOf('['))

/** The groups of a `forget`, as restic 0.14 shows them: without what it does not know, and with counters. */
const older = (groups: unknown) =>
  JSON.parse(JSON.stringify(groups), (name, value) =>
    ['summary', 'program_version', 'counters'].includes(name) ? undefined : value,
  )
const withoutIds = ({ id: _, short_id: __, ...fields }: Readonly<Record<string, unknown>>) => fields

for (const restic of restics) {
  describe.skipIf(!restic.isHere)(`stillpoint repo, beside ${restic.name} [needs ${restic.name}]`, () => {
    const isNewer = restic.name === newerResticName
    let bench: RepoBench
    beforeAll(async () => {
      bench = await makeBench({ restic })
    })
    afterAll(() => bench.remove())
    const sound = async () => expect(await bench.restic('check', '--read-data')).toContain('no errors were found')

    test('forget decides as restic does, in the same JSON; prune leaves a sound repository', async () => {
      const times = ['2024-01-01 10:00:00', '2024-01-01 11:00:00', '2024-02-03 10:00:00', '2024-02-04 10:00:00']
      for (const [at, time] of times.entries()) {
        await writeFile(join(bench.source, 'a.txt'), `content ${at} `.repeat(3000))
        await bench.restic('backup', 'source', '--time', time, '--quiet')
      }
      // Counts that are used up before the oldest: there restic 0.14 and later ones agree.
      const policy = ['--keep-last', '1', '--keep-daily', '2', '--dry-run']
      if (isNewer) {
        for (const groupBy of ['host,paths', 'tags', '']) {
          const args = ['forget', ...policy, '--group-by', groupBy, '--json']
          expect(await bench.ok(...args)).toBe(letters(await bench.restic(...args)))
        }
      } else {
        const [ours = []] = (await bench.json('forget', ...policy)) as [readonly GroupJson[]]
        const [theirs] = await bench.resticJson('forget', ...policy)
        const known = ours.map(({ reasons, ...group }) => ({
          ...group,
          reasons: reasons.map(({ snapshot, matches }) => ({ snapshot: withoutIds(snapshot), matches })),
        }))
        expect(older(known)).toEqual(older(theirs))
      }
      await bench.ok('forget', '--keep-last', '1', '--keep-daily', '2', '--prune', '--max-unused', '0')
      const [snapshots] = (await bench.resticJson('snapshots')) as [readonly unknown[]]
      expect(snapshots).toHaveLength(2)
      await sound()
      expect(await bench.restic('prune', '--dry-run', '--max-unused', '0')).toContain('unused size after prune: 0 B')
    })

    test('a damaged index is found by check, and repaired', async () => {
      const folder = join(bench.directory, 'repository', 'index')
      for (const name of await readdir(folder)) {
        await chmod(join(folder, name), 0o600)
        await truncate(join(folder, name), 20)
      }
      const checked = await bench.ours('check')
      expect(checked.code).toBe(1)
      expect(checked.stderr).toContain('is damaged')
      expect((await bench.ours('prune')).code).toBe(1)
      await bench.ok('repair', 'index')
      await bench.ok('repair', 'snapshots', '--dry-run')
      expect(await bench.ok('check', '--read-data-subset', '100%')).toContain('no errors were found')
      await sound()
    })
  })
}
