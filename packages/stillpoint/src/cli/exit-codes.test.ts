/** How commands on a system end, as processes: 3, 11, 20, 21 and 22. */
import { mkdir, open, readdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openLocalStore, openRepository } from '@stillpoint/repository'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock, systemEntropy, systemRandom } from '../system-env.ts'
import { makeApplication, run, start } from './workbench.ts'

let directory = ''
let remove = async () => {}
beforeAll(async () => {
  const application = await makeApplication()
  directory = application.directory
  remove = application.remove
  await writeFile(join(directory, 'password'), 'a-password-of-tests\n', { mode: 0o600 })
  await configure('  app: { source: sqlite, path: ./app.db }\n')
  expect(await run(directory, ['init'])).toMatchObject({ code: 0 })
})
afterAll(() => remove())

const configure = (participants: string, more = '') =>
  writeFile(
    join(directory, 'stillpoint.yaml'),
    `version: 1\nsystem: shop\nrepository: { path: ./snapshots, passwordFile: ./password }\n${more}participants:\n${participants}`,
  )

describe('a take that seals nothing', () => {
  test('ends with 21 where a participant does not answer in time', async () => {
    await configure(
      '  slow: { source: command, capture: echo content, quiesce: sleep 20, resume: "true" }\n',
      'deadlines: { quiesceMs: 500ms, resumeMs: 500ms }\n',
    )
    const ended = await run(directory, ['take', '--json'])
    expect(ended).toMatchObject({ code: 21, killedBy: null, stdout: '' })
    expect(ended.stderr).toContain('"code":"participant_timed_out"')
    expect(ended.stderr).toContain('slow')
  })

  test('ends with 20 where the cut is not consistent, and keeps it when it is told to', async () => {
    // A name that a mark of files cannot hold: the store says so, and the verdict goes by it.
    await mkdir(join(directory, 'files'))
    await writeFile(Buffer.concat([Buffer.from(join(directory, 'files/odd-')), Buffer.of(0xff)]), 'odd')
    await configure('  app: { source: sqlite, path: ./app.db }\n  odd: { source: files, path: ./files }\n')
    const ended = await run(directory, ['take', '--json'])
    expect(ended).toMatchObject({ code: 20, killedBy: null, stdout: '' })
    expect(ended.stderr).toContain('"code":"cut_inconsistent"')
    expect(await run(directory, ['take', '--allow-inconsistent'])).toMatchObject({ code: 3 })
  })
})

describe('a take beside somebody else', () => {
  test('ends with 11 while another one of the same system runs, which it names', async () => {
    await configure(
      `  slow: { source: command, capture: 'until test -e go; do sleep 0.1; done; echo content', quiesce: "true", resume: "true", mark: echo here, release: "true" }\n`,
    )
    const taking = start(directory, ['take', '--verbose'])
    await taking.shows('capture')
    const ended = await run(directory, ['take', '--json'])
    await writeFile(join(directory, 'go'), '')
    expect(ended).toMatchObject({ code: 11, killedBy: null, stdout: '' })
    expect(ended.stderr).toContain('"code":"system_busy"')
    expect(ended.stderr).toContain(`process ${taking.child.pid} `)
    expect(await taking.ended).toMatchObject({ code: 0 })
  })

  test('ends with 11 while another program has the repository for itself', async () => {
    await configure('  app: { source: sqlite, path: ./app.db }\n')
    const repository = await openRepository({
      store: openLocalStore(join(directory, 'snapshots')),
      password: 'a-password-of-tests',
      clock: systemClock,
      random: systemRandom,
      entropy: systemEntropy,
    })
    await repository.withLock('exclusive', async () => {
      const ended = await run(directory, ['take', '--json'])
      expect(ended).toMatchObject({ code: 11, killedBy: null, stdout: '' })
      expect(ended.stderr).toContain('"code":"repository_locked"')
      expect(ended.stderr).toContain(`process ${process.pid} `)
    })
    await repository.close()
    expect(await run(directory, ['take'])).toMatchObject({ code: 0 })
  })
})

describe('a snapshot', () => {
  test('of which a part is restored that the rest relies on: 3, and what it breaks is said', async () => {
    const files = join(directory, 'uploads')
    await mkdir(files)
    await writeFile(join(files, 'one'), 'one')
    await configure('  app: { source: sqlite, path: ./app.db }\n  uploads: { source: files, path: ./uploads }\n')
    expect(await run(directory, ['take'])).toMatchObject({ code: 0 })
    const ended = await run(directory, ['restore', 'latest', '--participant', 'uploads', '--replace', '--yes'])
    expect(ended).toMatchObject({ code: 3, killedBy: null })
    expect(ended.stdout).toMatch(/broken link|missing state|orphan state/)
  })

  test('whose data is damaged: 22, when it is verified and when it is restored', async () => {
    expect(await run(directory, ['verify', 'latest'])).toMatchObject({ code: 0 })
    await damage(join(directory, 'snapshots', 'data'))
    const verified = await run(directory, ['verify', 'latest', '--json'])
    expect(verified).toMatchObject({ code: 22, killedBy: null })
    expect(`${verified.stdout}${verified.stderr}`).toContain('damaged')
    await rename(join(directory, 'app.db'), join(directory, 'app.away'))
    const restored = await run(directory, ['restore', 'latest', '--participant', 'app', '--json'])
    expect(restored).toMatchObject({ code: 22, killedBy: null, stdout: '' })
    expect(restored.stderr).toMatch(/"code":"(object|part)_damaged"/)
  })
})

/** Flips a bit in the middle of every pack. */
async function damage(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    await using file = await open(join(entry.parentPath, entry.name), 'r+')
    const { size } = await file.stat()
    const byte = Buffer.alloc(1)
    await file.read(byte, 0, 1, size >> 1)
    byte[0] = (byte[0] ?? 0) ^ 1
    await file.write(byte, 0, 1, size >> 1)
  }
}
