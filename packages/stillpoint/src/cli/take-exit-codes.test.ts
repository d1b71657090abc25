/** How a take that seals nothing ends, as a process: 20 and 21. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeApplication, run } from './workbench.ts'

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
