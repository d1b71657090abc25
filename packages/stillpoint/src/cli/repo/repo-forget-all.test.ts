/** Removing all snapshots with `stillpoint repo forget`: only what is named, and only when it is said; as restic 0.18. */
import { newerResticName, restics } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeBench, type RepoBench } from './repo-workbench.ts'

let bench: RepoBench
const [program] = restics.filter(({ name, isHere }) => isHere && name === newerResticName)
beforeAll(async () => {
  bench = await makeBench()
  for (const host of ['one', 'two']) await bench.ok('backup', 'source', '--host', host, '--tag', host, '--quiet')
})
afterAll(() => bench.remove())

const count = async () => ((await bench.json('snapshots')) as [readonly unknown[]])[0].length

test('needs a policy, or both the word for it and what is meant', async () => {
  for (const flags of [[], ['--host', 'one'], ['--unsafe-allow-remove-all'], ['--keep-last', '0']]) {
    const { code, stdout, stderr } = await bench.ours('forget', '--json', ...flags)
    expect([flags, code, stdout]).toEqual([flags, 2, ''])
    expect(stderr).toMatch(/no policy was specified|needs --host, --tag or --path/)
  }
  // A policy that keeps nothing is a mistake, whatever is allowed.
  const emptied = await bench.ours('forget', '--host', 'one', '--keep-tag', 'nobody', '--unsafe-allow-remove-all')
  expect(emptied).toMatchObject({ code: 1, stdout: '' })
  expect(emptied.stderr).toContain('error[forget_all_refused]')
  expect(await count()).toBe(2)
})

describe.skipIf(program === undefined)(`beside ${newerResticName} [needs ${newerResticName}]`, () => {
  test('prints the same JSON', async () => {
    const dry = ['forget', '--tag', 'one', '--unsafe-allow-remove-all', '--dry-run', '--json']
    expect(await bench.ok(...dry)).toBe((await bench.restic(...dry)).trimStart())
    const none = ['forget', '--tag', 'nobody', '--keep-last', '1', '--json']
    expect(await bench.ok(...none)).toBe((await bench.restic(...none)).trim())
  })
})

test('removes what is selected, and nothing else', async () => {
  const all = ['forget', '--host', 'one', '--unsafe-allow-remove-all']
  expect(await bench.ok(...all, '--dry-run')).toMatch(/remove 1 snapshots:\n(?!.*keep)/)
  expect(await count()).toBe(2)
  const [groups] = await bench.json(...all)
  expect(groups).toMatchObject([{ host: 'one', keep: null, remove: [{ tags: ['one'] }], reasons: null }])
  const [left] = (await bench.json('snapshots')) as [readonly unknown[]]
  expect(left).toMatchObject([{ hostname: 'two' }])
  expect(left).toHaveLength(1)
})
