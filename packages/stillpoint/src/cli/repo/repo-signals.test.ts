/** How `stillpoint repo` ends when it is stopped, and while somebody else is at work: real processes, real signals. */
import { spawn } from 'node:child_process'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { start } from '../workbench.ts'
import { hasRestic, makeBench, type RepoBench } from './repo-workbench.ts'

let bench: RepoBench
beforeAll(async () => {
  bench = await makeBench()
  await writeFile(join(bench.source, 'large.bin'), Buffer.alloc(3_000_000, 1))
})
afterAll(() => bench.remove())

const repo = (...args: readonly string[]) => start(bench.directory, ['repo', ...args])
/** Objects, without what is being written. */
const names = async (folder: string) =>
  (await readdir(join(bench.directory, 'repository', folder))).filter((name) => name.length === 64)

async function until(what: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 20_000
  while (!(await what())) {
    if (performance.now() > deadlineMs) throw new Error('it did not happen')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Whether the process is there, and more than what is left until somebody asks for its exit code. */
async function runs(pid: string): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ' Z ')
  return !/ Z /.test(status)
}

/** A backup that goes on until it is stopped, once it has its lock. */
async function endless(script: string) {
  const running = repo('backup', '--stdin-from-command', '--', 'sh', '-c', script)
  await until(async () => (await names('locks')).length > 0)
  return running
}

describe('being stopped', () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 143],
  ] as const)('%s ends a backup with %i, and leaves no lock and no snapshot', async (signal, code) => {
    const running = await endless('while :; do echo more; sleep 0.1; done')
    running.child.kill(signal)
    const ended = await running.ended
    expect(ended).toMatchObject({ code, killedBy: null, stdout: '' })
    expect(ended.stderr).toContain('Stopping: giving back every lock.')
    expect(await names('locks')).toEqual([])
    expect(await names('snapshots')).toEqual([])
  })

  test('a second Ctrl-C ends it at once, whatever it still waits for', async () => {
    // The command takes no SIGTERM, and writes nothing to a pipe that is closed: the first Ctrl-C waits some seconds for it.
    const running = await endless('trap "" TERM; echo $$ >&2; while kill -0 $PPID; do sleep 0.1; done')
    running.child.kill('SIGINT')
    await running.shows('Once more to exit at once.')
    running.child.kill('SIGINT')
    const { stderr, ...ended } = await running.ended
    expect(ended).toMatchObject({ code: 130, killedBy: null })
    // Which is what it says when it has ended in order.
    expect(stderr).not.toContain('error[interrupted]')
    const pid = /^\d+$/m.exec(stderr)?.[0]
    expect(pid).toBeDefined()
    await until(async () => !(await runs(pid ?? '')))
    await bench.ok('unlock')
    expect(await names('locks')).toEqual([])
  })
})

describe('while somebody else is at work', () => {
  test('11: a prune beside a backup of ours, and it may wait', async () => {
    const running = await endless('while :; do echo more; sleep 0.1; done')
    const refused = await bench.ours('prune')
    expect(refused).toMatchObject({ code: 11, stdout: '' })
    expect(refused.stderr).toContain(`process ${running.child.pid}`)
    const waiting = repo('prune', '--retry-lock', '30s')
    await new Promise((resolve) => setTimeout(resolve, 300))
    running.child.kill('SIGINT')
    expect(await running.ended).toMatchObject({ code: 130 })
    expect(await waiting.ended).toMatchObject({ code: 0 })
  })

  test.skipIf(!hasRestic)('11: beside a backup of restic, too [needs restic]', async () => {
    const other = spawn('restic', ['backup', '--stdin'], { cwd: bench.directory, stdio: ['pipe', 'ignore', 'ignore'] })
    const ended = new Promise((resolve) => other.once('exit', resolve))
    try {
      await until(async () => (await names('locks')).length > 0)
      expect(await bench.ours('prune')).toMatchObject({ code: 11, stdout: '' })
      expect(await bench.ours('backup', 'source/a.txt')).toMatchObject({ code: 0 })
    } finally {
      other.kill('SIGKILL')
      await ended
    }
    expect(await bench.ours('prune')).toMatchObject({ code: 0 }) // its lock is stale
  })
})
