/** How commands end before they are done: by signals, by readers that go away, by SIGKILL; and how the server is stopped. */
import { access, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { resultSchemas } from './result-schemas.ts'
import { makeApplication, run, start, writeNote } from './workbench.ts'

let directory = ''
let remove = async () => {}
beforeAll(async () => {
  const application = await makeApplication()
  directory = application.directory
  remove = application.remove
  await writeFile(
    join(directory, 'stillpoint.yaml'),
    'version: 1\nsystem: shop\nrepository: { path: ./snapshots, passwordFile: ./password }\nparticipants:\n  app: { source: sqlite, path: ./app.db }\n',
  )
  await writeFile(join(directory, 'password'), 'a-password-of-tests\n', { mode: 0o600 })
  expect(await run(directory, ['init'])).toMatchObject({ code: 0 })
})
afterAll(() => remove())

const anyObject = z.looseObject({})

describe('being stopped', () => {
  test.each([
    ['SIGINT', 130, 'interrupted'],
    ['SIGTERM', 143, 'terminated'],
  ] as const)('%s ends a schedule with %i, and nothing is held', async (signal, code, name) => {
    const taking = start(directory, ['take', '--every', '1h'])
    await taking.shows('Next: ')
    taking.child.kill(signal)
    const ended = await taking.ended
    expect(ended).toMatchObject({ code, killedBy: null })
    expect(ended.stderr).toContain('Stopping: releasing every hold.')
    expect(ended.stderr).toContain(`error[${name}]`)
    writeNote(directory, `after ${signal}`)
  })

  test('Ctrl-C while it waits ends at once', async () => {
    const waiting = start(directory, ['take', '--in', '1h'])
    await waiting.shows('Waiting 1h')
    const startMs = performance.now()
    waiting.child.kill('SIGINT')
    expect(await waiting.ended).toMatchObject({ code: 130, stdout: '' })
    expect(performance.now() - startMs).toBeLessThan(2_000)
  })

  test('a schedule ends when nobody reads its results any more', async () => {
    const taking = start(directory, ['take', '--every', '1s', '--json'])
    taking.child.stdout?.destroy()
    expect(await taking.ended).toMatchObject({ code: 0, killedBy: null })
  })

  test('a reader that goes away is no failure', async () => {
    const showing = start(directory, ['list', '--json'])
    showing.child.stdout?.destroy()
    expect(await showing.ended).toMatchObject({ code: 0, stderr: '' })
  })

  test('a take that was killed leaves no hold, and the next one works', async () => {
    const taking = start(directory, ['take', '--verbose'])
    await taking.shows('prepare')
    taking.child.kill('SIGKILL')
    expect(await taking.ended).toMatchObject({ killedBy: 'SIGKILL' })
    writeNote(directory, 'after the kill')
    expect(await run(directory, ['take'])).toMatchObject({ code: 0 })
  })
})

describe('a running server', () => {
  test('carries out the commands, and is stopped in order', async () => {
    const serving = start(directory, ['up', '--json'])
    await serving.shows('"url"')
    const taken = await printed(['take'])
    expect(taken).toMatchObject({ system: 'shop', verdict: 'consistent' })
    expect(await printed(['doctor'])).toMatchObject({ passed: true })
    serving.child.kill('SIGTERM')
    const { code, stdout } = await serving.ended
    expect(code).toBe(0)
    const address = anyObject.parse(JSON.parse(stdout))
    resultSchemas.get('up')?.parse(address)
    await access(String(address['tokenFile']))
    await expect(fetch(String(address['url']))).rejects.toThrow()
    expect(await printed(['show', 'latest'])).toMatchObject({ id: taken['id'] })
  })
})

/** The object that a command printed. */
async function printed(args: readonly string[]): Promise<Readonly<Record<string, unknown>>> {
  const { code, stdout, stderr } = await run(directory, [...args, '--json'])
  expect(code, stderr).toBe(0)
  return anyObject.parse(JSON.parse(stdout))
}
