/** The commands on a real system: a SQLite database and a repository. Each test goes on from the one before. */
import { readFile, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { resultSchemas } from './result-schemas.ts'
import { startOnTerminal } from './terminal-workbench.ts'
import { makeApplication, readNotes, run, writeNote } from './workbench.ts'

let directory = ''
let remove = async () => {}
beforeAll(async () => {
  const application = await makeApplication()
  directory = application.directory
  remove = application.remove
})
afterAll(() => remove())

const anyObject = z.looseObject({})

/** The object that a command printed, which is one line of the published schema. */
async function json(args: readonly string[], expectedCode = 0): Promise<Readonly<Record<string, unknown>>> {
  const { code, stdout, stderr } = await run(directory, [...args, '--json'])
  expect(code, stderr).toBe(expectedCode)
  expect(stdout.split('\n')).toHaveLength(2)
  const value: unknown = JSON.parse(stdout)
  const schema = resultSchemas.get(args[0] ?? '')
  if (schema === undefined) throw new Error(`no schema for ${args[0]}`)
  schema.parse(value)
  return anyObject.parse(value)
}

describe('setting up', () => {
  test('init finds the database, writes a configuration and a private password, and makes the repository', async () => {
    const result = await json(['init', '--system', 'shop'])
    expect(result).toMatchObject({ configWritten: true, repositoryMade: true })
    const config = await readFile(join(directory, 'stillpoint.yaml'), 'utf8')
    expect(config).toContain('  app:\n    source: sqlite\n    path: ./app.db\n')
    expect((await stat(join(directory, 'repository-password'))).mode & 0o777).toBe(0o600)
    // Servers of this machine are no part of this test.
    const [head = ''] = config.split('participants:')
    await writeFile(
      join(directory, 'stillpoint.yaml'),
      `${head}participants:\n  app:\n    source: sqlite\n    path: ./app.db\n`,
    )
  })

  test('init overwrites nothing', async () => {
    const before = await readFile(join(directory, 'stillpoint.yaml'), 'utf8')
    expect(await json(['init'])).toMatchObject({ configWritten: false, repositoryMade: false, found: [] })
    expect(await readFile(join(directory, 'stillpoint.yaml'), 'utf8')).toBe(before)
  })

  test('doctor misses nothing, and says what is missing when it is', async () => {
    expect(await json(['doctor'])).toMatchObject({ passed: true })
    await rename(join(directory, 'app.db'), join(directory, 'app.away'))
    const { code, stdout } = await run(directory, ['doctor'])
    await rename(join(directory, 'app.away'), join(directory, 'app.db'))
    expect(code).toBe(1)
    expect(stdout).toMatch(/^MISSING {2}app {9}sqlite {5}.*app\.db.*\(.*\)$/m)
  })

  test('list says on stderr that there is nothing yet', async () => {
    const { code, stdout, stderr } = await run(directory, ['list'])
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' })
    expect(stderr).toBe('There are no snapshots yet. Take the first one with: stillpoint take\n')
  })
})

describe('snapshots', () => {
  test('are taken, listed, shown, verified and compared', async () => {
    const first = await json(['take', '--tag', 'before'])
    expect(first).toMatchObject({ system: 'shop', verdict: 'consistent', participants: 1, inFlight: 0 })
    writeNote(directory, 'second')
    const { code, stdout, stderr } = await run(directory, ['take', '--in', '100ms'])
    expect({ code, stderr: stderr.split('\n')[0] }).toEqual({ code: 0, stderr: 'Waiting 100ms' })
    expect(stdout).toMatch(/^Snapshot [0-9a-f]{64}\n {2}verdict {4}consistent\n/)
    const { snapshots } = await json(['list'])
    expect(snapshots).toHaveLength(2)
    expect(await json(['show', String(first['id']).slice(0, 12)])).toMatchObject({ id: first['id'] })
    expect(await json(['verify', 'latest'])).toMatchObject({ passed: true, verdict: 'consistent' })
    const diff = await json(['diff', String(first['id']), 'latest'])
    expect(diff['participants']).toMatchObject([{ name: 'app', change: 'changed' }])
  })

  test('that do not exist are a failure with its own message', async () => {
    const { code, stdout, stderr } = await run(directory, ['show', 'ffffffffffff'])
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(/^error\[snapshot_absent\]: .*ffffffffffff/)
  })

  test('are not restored over what is there without --replace, and not replaced without a yes', async () => {
    writeNote(directory, 'third')
    const refused = await run(directory, ['restore', 'latest'])
    expect(refused.code).toBe(1)
    expect(refused.stderr).toContain('error[target_not_empty]')
    const unasked = await run(directory, ['restore', 'latest', '--replace'])
    expect(unasked.code).toBe(1)
    expect(unasked.stderr).toContain('error[not_confirmed]: Nobody can be asked')
    expect(readNotes(directory)).toEqual(['first', 'second', 'third'])
  })

  test('replace what is there once the name of the system is typed', async () => {
    const wrong = await onTerminal('restore latest --replace', 'shopp\r')
    expect(wrong).toContain('error[not_confirmed]')
    expect(readNotes(directory)).toEqual(['first', 'second', 'third'])
    const interrupted = await onTerminal('restore latest --replace', 'sho\x03')
    expect(interrupted).toContain('error[interrupted]')
    expect(interrupted).toContain('code=130\r\n')
    expect(readNotes(directory)).toEqual(['first', 'second', 'third'])
    const right = await onTerminal('restore latest --replace', 'shop\r')
    expect(right).toContain('as generation 2')
    expect(readNotes(directory)).toEqual(['first', 'second'])
  })

  test('are deleted with a yes only', async () => {
    expect((await run(directory, ['delete', 'latest'])).stderr).toContain('error[not_confirmed]')
    await json(['delete', 'latest', '--yes'])
    const { snapshots } = await json(['list'])
    expect(snapshots).toHaveLength(1)
  })
})

describe('exit codes', () => {
  test('12 for the wrong password, and 10 for no repository', async () => {
    const file = join(directory, 'repository-password')
    const password = await readFile(file)
    await writeFile(file, 'wrong\n')
    expect(await run(directory, ['list'])).toMatchObject({ code: 12, stdout: '' })
    await writeFile(file, password)
    await rename(join(directory, 'snapshots'), join(directory, 'away'))
    expect(await run(directory, ['take'])).toMatchObject({ code: 10, stdout: '' })
    await rename(join(directory, 'away'), join(directory, 'snapshots'))
  })
})

/** Runs the command on a terminal, types when it asks, and answers all that was shown. */
async function onTerminal(args: string, typed: string): Promise<string> {
  const terminal = startOnTerminal(directory, `stty -g; stillpoint ${args}; echo "code=$?"; stty -g`)
  await terminal.shows('to go on: ')
  terminal.type(typed)
  await terminal.ended
  const [before, after] = terminal.shown().match(/^[0-9a-f]+(:[0-9a-f]+){10,}/gm) ?? []
  expect(before).toBeDefined()
  expect(after, 'the terminal is as it was').toBe(before)
  return terminal.shown()
}
