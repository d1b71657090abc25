/** The hold that the user's commands make, and its watchdog, when things go wrong. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type CutId, Failure } from '@stillpoint/core/kernel'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { until } from '../workbench.ts'
import { type CommandRun, commandOutput, commandSays, commandText, feedCommand } from './command-process.ts'
import { type HookCommands, HookHold } from './hook-hold.ts'

const never = new AbortController().signal
const here = fileURLToPath(new URL('.', import.meta.url))
const cut = 'cut-1' as CutId
let dir = ''
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'stillpoint-hooks-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const log = () => (existsSync(join(dir, 'log')) ? readFileSync(join(dir, 'log'), 'utf8').trim().split('\n') : [])
const hooks = (more: Partial<HookCommands> = {}): HookCommands => ({
  quiesce: 'echo quiesce >>log',
  resume: 'echo resume >>log',
  cwd: dir,
  timeoutMs: 5000,
  ...more,
})

async function failure(promise: Promise<unknown>): Promise<Failure> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof Failure)) throw new Error(`a Failure was expected, not ${String(error)}`)
  return error
}

describe('a hold of hooks', () => {
  test('resumes once, and answers twice', async () => {
    const hold = await HookHold.begin(cut, 5000, hooks(), never)
    expect(log()).toEqual(['quiesce'])
    expect(await hold.resume()).toEqual({ unbroken: true })
    expect(await hold.resume()).toEqual({ unbroken: true })
    expect(log()).toEqual(['quiesce', 'resume'])
  })

  test('gives the commands the cut and the lease', async () => {
    const hold = await HookHold.begin(
      cut,
      1234,
      hooks({ quiesce: 'echo $STILLPOINT_CUT $STILLPOINT_LEASE_MS >>log' }),
      never,
    )
    await hold.resume()
    expect(log()[0]).toBe('cut-1 1234')
  })

  test.each(['SIGKILL', 'SIGSTOP'] as const)('resumes by itself when its process gets %s', async (signal) => {
    const commands = JSON.stringify(hooks())
    const source = `
      import { HookHold } from './hook-hold.ts'
      await HookHold.begin('c', 500, ${commands}, new AbortController().signal)
      console.log('held')
      setInterval(() => {}, 1000)`
    const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
      cwd: here,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    try {
      await once(child.stdout, 'data')
      child.kill(signal)
      expect(log()).toEqual(['quiesce'])
      await until(() => log().length === 2, 4000, 'the resume')
      expect(log()).toEqual(['quiesce', 'resume'])
    } finally {
      child.kill('SIGKILL')
    }
  })

  test('a quiesce that fails is followed by a resume, and says why', async () => {
    const error = await failure(
      HookHold.begin(cut, 5000, hooks({ quiesce: 'echo half >>log; echo no lock >&2; exit 4' }), never),
    )
    expect([error.code, error.message]).toEqual(['command_failed', expect.stringContaining('exit code 4: no lock')])
    expect(log()).toEqual(['half', 'resume'])
  })

  test('a quiesce that is cancelled is ended, and followed by a resume', async () => {
    const controller = new AbortController()
    const beginning = HookHold.begin(
      cut,
      5000,
      hooks({ quiesce: 'echo half >>log; sleep 20; echo late >>log' }),
      controller.signal,
    )
    beginning.catch(() => undefined)
    await until(() => log().length === 1, 4000, 'the quiesce')
    controller.abort(new Error('stop'))
    await expect(beginning).rejects.toThrow('stop')
    expect(log()).toEqual(['half', 'resume'])
  })

  test('a quiesce that takes longer than the lease fails', async () => {
    const error = await failure(HookHold.begin(cut, 200, hooks({ quiesce: 'sleep 20' }), never))
    expect(error.code).toBe('command_timeout')
    expect(log()).toEqual(['resume'])
  })

  test('a resume that fails at first is tried again; one that never works is told', async () => {
    const flaky = await HookHold.begin(
      cut,
      5000,
      hooks({ resume: 'test -e once || { touch once; exit 1; }; echo resume >>log' }),
      never,
    )
    expect(await flaky.resume()).toEqual({ unbroken: true })
    const stuck = await HookHold.begin(cut, 5000, hooks({ resume: 'echo jammed >&2; exit 1' }), never)
    expect(await stuck.resume()).toEqual({ unbroken: false, detail: expect.stringContaining('jammed') })
  })
})

describe('a command', () => {
  const run = (command: CommandRun['command'], more: Partial<CommandRun> = {}): CommandRun => ({
    role: 'test',
    command,
    cwd: dir,
    timeoutMs: 5000,
    signal: never,
    ...more,
  })

  async function collect(content: AsyncIterable<Uint8Array>): Promise<number> {
    let bytes = 0
    for await (const chunk of content) bytes += chunk.length
    return bytes
  }

  async function* blocks(count: number): AsyncIterable<Uint8Array> {
    for (let i = 0; i < count; i += 1) yield Buffer.alloc(65_536, i)
  }

  test('streams what it prints, and fails at the end when it failed', async () => {
    expect(await collect(commandOutput(run('head -c 3000000 /dev/zero')))).toBe(3_000_000)
    expect(
      (await failure(collect(commandOutput(run('echo partial; echo broken pipe to the store >&2; exit 2'))))).message,
    ).toContain('exit code 2: broken pipe to the store')
  })

  test('gets all that it is fed, and its early end is judged by its exit code', async () => {
    expect(await feedCommand(run('cat >fed'), blocks(40))).toBe(40 * 65_536)
    expect(readFileSync(join(dir, 'fed')).length).toBe(40 * 65_536)
    expect((await failure(feedCommand(run('exit 3'), blocks(200)))).message).toContain('exit code 3')
    await feedCommand(run('head -c 1 >/dev/null'), blocks(200))
  })

  test('does not take half an input for a whole one', async () => {
    async function* broken(): AsyncIterable<Uint8Array> {
      yield Buffer.from('half')
      throw new Error('the repository is gone')
    }
    await expect(feedCommand(run('cat >fed && touch done'), broken())).rejects.toThrow('the repository is gone')
    expect(existsSync(join(dir, 'done'))).toBe(false)
  })

  test('that is late or aborted is ended with what it started', async () => {
    expect((await failure(commandText(run('(sleep 1; touch late) & wait', { timeoutMs: 100 })))).code).toBe(
      'command_timeout',
    )
    const controller = new AbortController()
    setTimeout(() => controller.abort(new Error('stop')), 50)
    await expect(commandText(run('(sleep 1; touch late) & wait', { signal: controller.signal }))).rejects.toThrow(
      'stop',
    )
    await new Promise((wake) => setTimeout(wake, 1200))
    expect(existsSync(join(dir, 'late'))).toBe(false)
  })

  test('that is not there is a missing tool; one that is a question answers', async () => {
    expect((await failure(commandText(run(['no-such-program', 'secret'])))).code).toBe('tool_missing')
    expect((await failure(commandText(run(['no-such-program', 'secret'])))).message).not.toContain('secret')
    expect(await commandSays(run('exit 0'))).toBe(true)
    expect(await commandSays(run('exit 1'))).toBe(false)
    expect((await failure(commandSays(run('exit 2')))).code).toBe('command_failed')
  })
})
