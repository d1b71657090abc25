/** Passwords that are typed, on a real terminal: what it shows, how the command ends, and how it leaves the terminal. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type OnTerminal, scriptTool, startOnTerminal } from '../terminal-workbench.ts'
import { start } from '../workbench.ts'
import { makeBench, type RepoBench } from './repo-workbench.ts'

let bench: RepoBench
beforeAll(async () => {
  bench = await makeBench()
  delete process.env['RESTIC_PASSWORD_FILE']
})
afterAll(() => bench.remove())

const question = 'password of the repository: '
const tryAgain = 'No key of the repository opens with this password. Try again.'
const again = 'The same once more: '
/** The command between two looks at the terminal's settings, and how it ends. */
const watched = (command: string) => `stty -g; ${command}; echo "code=$?"; stty -g`
/** Tells the number of the process that asks. */
const withPid = (args: string) => `sh -c 'echo "pid=$$"; exec "$STILLPOINT_NODE" "$STILLPOINT_BINARY" ${args}'`
const pidIn = (terminal: OnTerminal) => Number(/pid=(\d+)/.exec(terminal.shown())?.[1])
const onTerminal = (line: string) => startOnTerminal(bench.directory, line)

function expectRestored(terminal: OnTerminal): void {
  const [before, after, ...more] = terminal.shown().match(/^[0-9a-f]+(:[0-9a-f]+){10,}/gm) ?? []
  expect(before).toBeDefined()
  expect([after, more]).toEqual([before, []])
}

async function isGone(pid: number): Promise<boolean> {
  // Ended, and perhaps not asked for its exit code yet.
  return / Z /.test(await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ' Z '))
}

const isMissing = scriptTool === undefined || process.platform !== 'linux'
describe.skipIf(isMissing)('a password that is asked for on a terminal [needs script]', () => {
  test('opens the repository, and is not shown where all else is', async () => {
    const terminal = onTerminal('read -r word; stillpoint repo snapshots')
    terminal.type('visible\r')
    await terminal.shows('visible')
    await terminal.shows(question)
    terminal.type('secret\r')
    expect(await terminal.ended).toBe(0)
    await terminal.shows('There are no snapshots.')
    expect(terminal.shown()).not.toContain('secret')
  })

  test('may be corrected: a character, all of it; and Ctrl-D ends it, too', async () => {
    const terminal = onTerminal('stillpoint repo snapshots')
    await terminal.shows(question)
    terminal.type('something else\x15secreX')
    terminal.type('\x7ft\x04')
    expect(await terminal.ended).toBe(0)
    expect(terminal.shown()).not.toMatch(/something|secre/)
  })

  test('is asked for again where it is wrong, up to three times; then 12, and no word of it is shown', async () => {
    const terminal = onTerminal(watched('stillpoint repo snapshots'))
    for (const [at, wrong] of ['mistaken', '', 'once more mistaken'].entries()) {
      await terminal.shows(question)
      terminal.type(`${wrong}\r`)
      await terminal.shows(at < 2 ? tryAgain : 'error[password_wrong]')
    }
    await terminal.shows('code=12\r\n')
    await terminal.ended
    expect(terminal.shown().split(question)).toHaveLength(4)
    expect(terminal.shown().split(tryAgain)).toHaveLength(3)
    expect(terminal.shown()).not.toContain('mistaken')
    expectRestored(terminal)
  })

  test('opens at the third time; what was pasted is taken line by line', async () => {
    const terminal = onTerminal(watched('stillpoint repo snapshots'))
    await terminal.shows(question)
    terminal.type('mistaken\r')
    await terminal.shows(tryAgain)
    await terminal.shows(question)
    terminal.type('also mistaken\rsecret\r')
    await terminal.shows(tryAgain)
    await terminal.shows(question)
    await terminal.shows('There are no snapshots.')
    await terminal.shows('code=0\r\n')
    await terminal.ended
    expect(terminal.shown()).not.toMatch(/mistaken|secret/)
    expectRestored(terminal)
  })

  test.each([
    ['\x03', 'error[interrupted]', 130],
    ['\x04', 'error[secret_empty]', 1],
  ])('ends at the second question, too, and leaves the terminal as it was: %j', async (key, told, code) => {
    const terminal = onTerminal(watched('stillpoint repo snapshots'))
    await terminal.shows(question)
    terminal.type('mistaken\r')
    await terminal.shows(question)
    terminal.type(key)
    await terminal.shows(told)
    await terminal.shows(`code=${code}\r\n`)
    await terminal.ended
    expect(terminal.shown().split(question)).toHaveLength(3)
    expectRestored(terminal)
  })

  test('is asked for once where something else is wrong', async () => {
    const terminal = onTerminal('stillpoint repo snapshots -r nowhere; echo "code=$?"')
    await terminal.shows(question)
    terminal.type('secret\r')
    await terminal.shows('error[repository_absent]')
    await terminal.shows('code=10\r\n')
    await terminal.ended
    expect(terminal.shown().split(question)).toHaveLength(2)
  })

  test('of a command or a file is tried once, also where somebody sits there', async () => {
    await writeFile(join(bench.directory, 'wrong'), 'mistaken\n', { mode: 0o600 })
    for (const args of ["--password-command 'echo mistaken'", '--password-file wrong']) {
      const terminal = onTerminal(`stillpoint repo snapshots ${args}; echo "code=$?"`)
      await terminal.shows('error[password_wrong]')
      await terminal.shows('code=12\r\n')
      await terminal.ended
      expect(terminal.shown()).not.toContain(question)
      expect(terminal.shown()).not.toContain(tryAgain)
    }
  })

  test('of the repository to copy from may be wrong twice, too', async () => {
    const terminal = onTerminal('stillpoint repo copy --password-file password --from-repo repository; echo "code=$?"')
    for (const typed of ['mistaken', 'mistaken', 'secret']) {
      await terminal.shows('password of the repository to copy from: ')
      terminal.type(`${typed}\r`)
    }
    await terminal.shows('code=0\r\n')
    await terminal.ended
    expect(terminal.shown()).not.toMatch(/mistaken|secret/)
  })

  test('130 at Ctrl-C, and the terminal is as it was', async () => {
    const terminal = onTerminal(watched('stillpoint repo snapshots'))
    await terminal.shows(question)
    terminal.type('secr\x03')
    await terminal.shows('error[interrupted]')
    await terminal.shows('code=130\r\n')
    await terminal.ended
    expect(terminal.shown()).not.toContain('secr')
    expectRestored(terminal)
  })

  test('143 at SIGTERM, and the terminal is as it was', async () => {
    const terminal = onTerminal(watched(withPid('repo snapshots')))
    await terminal.shows(question)
    process.kill(pidIn(terminal), 'SIGTERM')
    await terminal.shows('code=143\r\n')
    await terminal.ended
    expectRestored(terminal)
  })

  test('1 where nothing is typed before Ctrl-D, and the terminal is as it was', async () => {
    const terminal = onTerminal(watched('stillpoint repo snapshots'))
    await terminal.shows(question)
    terminal.type('\x04')
    await terminal.shows('error[secret_empty]: no password was typed')
    await terminal.shows('code=1\r\n')
    await terminal.ended
    expectRestored(terminal)
  })

  test('nobody waits for it when the terminal is gone', async () => {
    const terminal = onTerminal(withPid('repo snapshots'))
    await terminal.shows(question)
    terminal.hangUp()
    await terminal.ended
    await expect.poll(() => isGone(pidIn(terminal)), { timeout: 20_000 }).toBe(true)
  })

  test('of a new repository is asked for twice, has to be the same, and not nothing', async () => {
    const differs = onTerminal(watched('stillpoint repo init -r second'))
    await differs.shows(question)
    differs.type('one\r')
    await differs.shows(again)
    differs.type('other\r')
    await differs.shows('error[secret_mistyped]')
    await differs.shows('code=1\r\n')
    await differs.ended
    expectRestored(differs)

    const nothing = onTerminal('stillpoint repo init -r second')
    await nothing.shows(question)
    // Both at once, as from a clipboard.
    nothing.type('\r\r')
    await nothing.shows('error[secret_empty]')
    expect(await nothing.ended).toBe(1)

    const pasted = onTerminal('stillpoint repo init -r second')
    await pasted.shows(question)
    pasted.type('päss word \rpäss word \r')
    await pasted.shows('created repository')
    expect(await pasted.ended).toBe(0)
    expect(pasted.shown()).not.toContain('päss')
  })

  test('of a new key is taken as it is typed, as it is when it opens', async () => {
    const terminal = onTerminal('stillpoint repo key add; stillpoint repo key list')
    await terminal.shows(question)
    terminal.type('secret\r')
    await terminal.shows('new password: ')
    terminal.type(' with spaces \r')
    await terminal.shows(again)
    terminal.type(' with spaces \r')
    await terminal.shows(question)
    terminal.type(' with spaces \r')
    expect(await terminal.ended).toBe(0)
    expect(terminal.shown()).not.toContain('spaces')
  })

  test.each(['< /dev/null', '2> told; cat told', '> told 2>&1; cat told'])(
    '2 where it cannot be asked for on both sides: %s',
    async (redirection) => {
      const [redirected, ...rest] = redirection.split(';')
      const terminal = onTerminal(`stillpoint repo snapshots ${redirected}; echo "code=$?"; ${rest.join(';')}`)
      await terminal.shows('code=2\r\n')
      await terminal.ended
      expect(terminal.shown()).not.toContain(question)
      expect(terminal.shown()).toContain('error[repository_password_missing]: no password of the repository is named')
      expect(terminal.shown()).toContain('Give --password-file FILE, or set RESTIC_PASSWORD_FILE')
    },
  )

  test('2 where there is no terminal at all', async () => {
    const ended = await start(bench.directory, ['repo', 'snapshots']).ended
    expect(ended).toMatchObject({ code: 2, stdout: '' })
    expect(ended.stderr).toContain('error[repository_password_missing]')
  })
})
