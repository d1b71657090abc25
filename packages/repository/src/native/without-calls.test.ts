/** Where the system's calls are not known, everything is done by paths: to the same tree, with times to the microsecond. */
import { execFileSync } from 'node:child_process'
import { lstatSync, mkdirSync } from 'node:fs'
import { link, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { fingerprint, newRepository, password, reopen, scratch, seeded } from '../testing/testbed.ts'

const program = fileURLToPath(new URL('../testing/save-and-restore.ts', import.meta.url))

async function makeTree(path: string): Promise<void> {
  const random = seeded(7)
  for (let folder = 0; folder < 30; folder += 1) {
    const place = join(path, `${folder % 3}`, `${folder % 7}`, `folder ${folder}`)
    mkdirSync(place, { recursive: true })
    for (let file = 0; file < 8; file += 1) {
      await writeFile(join(place, `ü${file}`), random.bytes(random.below(5000)), { mode: file === 3 ? 0o600 : 0o644 })
      // Microseconds, which every way can restore.
      await utimes(join(place, `ü${file}`), 1, 1_700_000_000 + random.below(1e6))
    }
    await symlink('nowhere', join(place, 'link'))
  }
  await writeFile(join(path, 'large'), random.bytes(3_000_000))
  await link(join(path, 'large'), join(path, '0', 'second'))
  execFileSync('sh', [
    '-c',
    'cd "$0" && mkfifo -m 640 fifo && : > "$(printf "raw\\377")" && find . -exec touch -h -d "2020-01-01 00:00:00.123456" {} +',
    path,
  ])
}

test('a directory is saved to the same tree and restored to the same without them', async () => {
  const home = await scratch()
  const [path, source] = [join(home, 'repository'), join(home, 'source')]
  await makeTree(source)
  await newRepository(path)
  const run = (target: string, options: readonly string[]) => {
    const args = ['--disable-warning=ExperimentalWarning', ...options, program, path, source, join(home, target)]
    const env = { ...process.env, SAVE_PASSWORD: password }
    return JSON.parse(execFileSync(process.execPath, args, { env, encoding: 'utf8' }))
  }
  const usual = run('usual', [])
  const without = run('without', ['--no-addons'])
  expect([usual.isKnown, usual.errors, usual.problems]).toEqual([true, [], []])
  expect([without.isKnown, without.errors, without.problems]).toEqual([false, [], []])
  expect(without.tree).toBe(usual.tree)
  const wanted = await fingerprint(source)
  expect(await fingerprint(join(home, 'usual'))).toEqual(wanted)
  const restored = await fingerprint(join(home, 'without'))
  expect(Object.keys(restored)).toEqual(Object.keys(wanted))
  const micros = (text: string) => text.replace(/^(\S+ \S+ \S+ -?\d+)\d{3}(?= |$)/, '$1')
  for (const [name, text] of Object.entries(wanted))
    expect([name, micros(restored[name] ?? '')]).toEqual([name, micros(text)])
  expect(lstatSync(join(home, 'without', 'large')).nlink).toBe(2)
  expect((await (await reopen(path)).check({ readData: true })).problems).toEqual([])
})
