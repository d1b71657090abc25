/** How commands end before they are done: by signals, by readers that go away, by SIGKILL; and how the server is stopped. */
import { access, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { resultSchemas } from './result-schemas.ts'
import { makeApplication, run, start, writeNote } from './workbench.ts'

const configHead = 'version: 1\nsystem: shop\nrepository: { path: ./snapshots, passwordFile: ./password }\n'
let directory = ''
let remove = async () => {}
beforeAll(async () => {
  const application = await makeApplication()
  directory = application.directory
  remove = application.remove
  await writeFile(
    join(directory, 'stillpoint.yaml'),
    `${configHead}participants:\n  app: { source: sqlite, path: ./app.db }\n`,
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
    ['SIGHUP', 143, 'terminated'],
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

  test('Ctrl-C while it waits ends it, and nothing is left that would keep it from ending', async () => {
    // What is left open is cut off by `process.exit` after some seconds.
    const tellsExit = `process.exit = (real => code => { console.error('cut off'); real(code) })(process.exit)`
    const options = ['--import', `data:text/javascript,${encodeURIComponent(tellsExit)}`]
    const waiting = start(directory, ['take', '--in', '1h'], options)
    await waiting.shows('Waiting 1h')
    waiting.child.kill('SIGINT')
    const { stderr, ...ended } = await waiting.ended
    expect(ended).toMatchObject({ code: 130, killedBy: null, stdout: '' })
    expect(stderr).toContain('error[interrupted]')
    expect(stderr).not.toContain('cut off')
  })

  test.each([
    ['SIGINT', 'SIGINT', 130],
    ['SIGTERM', 'SIGTERM', 143],
    ['SIGINT', 'SIGTERM', 143],
  ] as const)('%s and then %s end a take with %i, whatever it still waits for', async (first, second, code) => {
    // The first signal waits for the release, which takes as long as it may: half a minute.
    const commands = `capture: 'while echo more; do sleep 0.1; done', mark: echo here, release: 'while kill -0 $PPID; do sleep 0.1; done'`
    await writeFile(
      join(directory, 'slow.yaml'),
      `${configHead}participants:\n  slow: { source: command, ${commands} }\n`,
    )
    const taking = start(directory, ['take', '--verbose', '--config', 'slow.yaml'])
    await taking.shows('capture')
    taking.child.kill(first)
    await taking.shows('Once more to exit at once.')
    taking.child.kill(second)
    const { stderr, ...ended } = await taking.ended
    expect(ended).toMatchObject({ code, killedBy: null, stdout: '' })
    // Which is what it says when it has ended in order.
    expect(stderr).not.toMatch(/error\[(interrupted|terminated)\]/)
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
  test.each(['SIGINT', 'SIGHUP'] as const)('ends with 0 at %s, and the next one starts', async (signal) => {
    const serving = start(directory, ['up', '--json'])
    await serving.shows('"url"')
    serving.child.kill(signal)
    expect(await serving.ended).toMatchObject({ code: 0, killedBy: null })
  })

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
