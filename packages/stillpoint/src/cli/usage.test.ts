/** Arguments, help and configuration errors, as a user meets them. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { errorSchema } from './result-schemas.ts'
import { run } from './workbench.ts'

let directory = ''
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'stillpoint-usage-'))
})
afterAll(() => rm(directory, { recursive: true, force: true }))

describe('help', () => {
  test('goes to stdout when it was asked for, examples before options', async () => {
    const { code, stdout, stderr } = await run(directory, ['take', '--help'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^Takes one consistent snapshot/)
    expect(stdout.indexOf('Examples:')).toBeGreaterThan(0)
    expect(stdout.indexOf('Examples:')).toBeLessThan(stdout.indexOf('Usage:'))
    expect(stdout).toContain('(default: "stillpoint.yaml")')
    expect(stdout).toContain('Documentation: docs/cli.md#take')
  })

  test('goes to stderr when nothing was asked for', async () => {
    const { code, stdout, stderr } = await run(directory, [])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    for (const name of [
      'demo',
      'init',
      'up',
      'take',
      'list',
      'show',
      'verify',
      'diff',
      'restore',
      'delete',
      'doctor',
    ]) {
      expect(stderr).toMatch(new RegExp(`^  ${name} `, 'm'))
    }
  })
})

describe('wrong usage ends with 2, says what was meant, and does nothing', () => {
  test.each([
    ['an unknown command', ['tkae'], "unknown command 'tkae'\n(Did you mean take?)"],
    ['an unknown option', ['take', '--evry', '2h'], "unknown option '--evry'\n(Did you mean --every?)"],
    ['a duration that is none', ['take', '--in', 'soon'], 'Give a duration such as "200ms", "8s" or "2h".'],
    ['a period that is too short', ['take', '--every', '1ms'], 'It must be at least 1s.'],
    ['options that exclude each other', ['take', '--every', '2h', '--in', '5s'], 'cannot be used with'],
    ['a tag that is not allowed', ['take', '--tag', 'a,b'], 'Use 1 to 64 characters without spaces'],
    ['a missing argument', ['show'], "missing required argument 'id'"],
    [
      'an id with a path in it',
      ['show', '../../etc/passwd'],
      'Give the id of a snapshot, its first digits, or "latest".',
    ],
    ['an id with a newline in it', ['show', 'a\nb'], 'Give the id of a snapshot'],
    [
      'a name of 10,000 characters',
      ['restore', 'latest', '--participant', 'x'.repeat(10_000)],
      'is not a valid name (10000 characters)',
    ],
    ['an argument too many', ['list', 'extra'], 'too many arguments'],
  ])('%s', async (_, args, message) => {
    const { code, stdout, stderr } = await run(directory, args)
    expect(stderr).toContain(message)
    expect(stderr).toMatch(/^error\[usage\]: /)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  })

  test('with --json as JSON on stderr', async () => {
    const { code, stdout, stderr } = await run(directory, ['take', '--evry', '--json'])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    const told = errorSchema.parse(JSON.parse(stderr))
    expect(told).toMatchObject({ error: { code: 'usage' }, exitCode: 2, message_type: 'exit_error', code: 2 })
  })
})

describe('a configuration', () => {
  test('that is absent', async () => {
    const { code, stdout, stderr } = await run(directory, ['list'])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toBe(
      'error[config_absent]: there is no stillpoint.yaml\n  Write one with "stillpoint init", change into the directory that has it, or name it with --config FILE.\n',
    )
  })

  test('that has errors names each with its place', async () => {
    const path = join(directory, 'wrong.yaml')
    await writeFile(
      path,
      'version: 1\nsystem: shop\nrepository: { path: ./s, passwordFile: ./pw }\nparticipants:\n  db: { source: sqlit }\n  web: { proces: true }\n',
    )
    const human = await run(directory, ['take', '--config', 'wrong.yaml'])
    expect(human.code).toBe(2)
    expect(human.stderr.split('\n').slice(0, 3)).toEqual([
      'error[config_invalid]: wrong.yaml has 2 errors:',
      '  participants.db.source is not a known source at wrong.yaml:5:17; did you mean "sqlite"?',
      '  unknown key "proces" at wrong.yaml:6:10; did you mean "process"?',
    ])
    const json = await run(directory, ['take', '--config', 'wrong.yaml', '--json'])
    expect(errorSchema.parse(JSON.parse(json.stderr))).toMatchObject({ error: { code: 'config_invalid' }, exitCode: 2 })
  })
})
