/** `stillpoint repo restore --ownership-by-name`, with names that this machine has. */
import { execFileSync } from 'node:child_process'
import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import { openLocalStore, openRepository } from '@stillpoint/repository'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock, systemEntropy } from '../../system-env.ts'
import { makeBench, type RepoBench } from './repo-workbench.ts'

describe.skipIf(process.getuid?.() !== 0)('restore --ownership-by-name [needs root]', () => {
  let bench: RepoBench
  /** Of the user "daemon", and of its group. */
  let here: { readonly uid: number; readonly group: string; readonly gid: number }
  beforeAll(async () => {
    bench = await makeBench()
    const idOf = (option: string) => execFileSync('id', [option, 'daemon'], { encoding: 'utf8' }).trim()
    here = { uid: Number(idOf('-u')), group: idOf('-gn'), gid: Number(idOf('-g')) }
    const store = openLocalStore(join(bench.directory, 'repository'))
    const repository = await openRepository({ store, password: 'secret', clock: systemClock, entropy: systemEntropy })
    const save = await repository.startSave()
    // As if saved on a machine where they have other numbers.
    const owner = { uid: 4711, gid: 4712, user: 'daemon', group: here.group }
    const { content, bytes } = await save.saveBytes(Buffer.from('text'))
    const subtree = await save.saveTree([{ name: 'file', type: 'file', content, bytes, ...owner }])
    const tree = await save.saveTree([
      { name: 'below', type: 'dir', subtree, ...owner },
      { name: 'link', type: 'symlink', target: 'below', ...owner },
      { name: 'nobody-here', type: 'file', content, bytes, ...owner, user: 'nobody-here-has-this-name' },
    ])
    await save.finish()
    await repository.seal({ time: 0n, paths: ['/there'], hostname: 'there', username: 'u', tree })
    await repository.close()
  })
  afterAll(() => bench.remove())

  async function ownersIn(target: string): Promise<readonly (readonly [number, number])[]> {
    const paths = ['below', 'below/file', 'link', 'nobody-here'].map((path) => join(bench.directory, target, path))
    return (await Promise.all(paths.map((path) => lstat(path)))).map(({ uid, gid }) => [uid, gid] as const)
  }

  test('owners are those of the names, others by number; without it all are by number', async () => {
    const named = [here.uid, here.gid]
    const expected = [named, named, named, [4711, here.gid]]
    await bench.ok('restore', 'latest', '--target', 'named', '--ownership-by-name')
    expect(await ownersIn('named')).toEqual(expected)
    await bench.ok('restore', 'latest', '--target', 'numbered')
    expect(await ownersIn('numbered')).toEqual(expected.map(() => [4711, 4712]))
    await bench.ok('restore', 'latest', '--target', 'numbered', '--ownership-by-name')
    expect(await ownersIn('numbered')).toEqual(expected)
  })

  test('repeated, it finds all unchanged', async () => {
    const args = ['restore', 'latest', '--target', 'repeated', '--ownership-by-name', '--verify']
    await bench.ok(...args)
    const status = () => lstat(join(bench.directory, 'repeated/below/file'), { bigint: true })
    const before = await status()
    const lines = await bench.json(...args)
    expect(lines.at(-1)).toMatchObject({ message_type: 'summary', files_skipped: 2 })
    expect((await status()).ctimeNs).toBe(before.ctimeNs)
  })
})
