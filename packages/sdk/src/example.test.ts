/** The example of the README, as its two processes, through a snapshot, a crash and a restore. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { type CutResult, recordedOf, scriptedCoordinator, stateOf, testToken } from './testing/scripted-coordinator.ts'

const open: { close(): unknown }[] = []
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close()
})

const example = path.join(import.meta.dirname, '..', 'examples', 'counter.ts')

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}

function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => child.once('exit', () => resolve()))
}

function totalIn(result: CutResult): number {
  const inFlight = recordedOf(result, 'left', 'right→left').length + recordedOf(result, 'right', 'left→right').length
  return Number(stateOf(result, 'left')) + Number(stateOf(result, 'right')) + inFlight
}

test('two processes are snapshot while they run, killed, and restored with all marbles', async () => {
  const coordinator = await scriptedCoordinator()
  open.push(coordinator)
  const folder = await mkdtemp(path.join(tmpdir(), 'stillpoint-example-'))
  open.push({ close: () => rm(folder, { recursive: true }) })
  const tokenFile = path.join(folder, 'token')
  await writeFile(tokenFile, testToken)
  const [left, right] = [await freePort(), await freePort()]
  const start = (name: string, port: number, peer: number): ChildProcess => {
    const child = spawn(process.execPath, [example, name, `${port}`, `ws://127.0.0.1:${peer}/stillpoint/channels`], {
      env: { ...process.env, STILLPOINT_URL: coordinator.url, STILLPOINT_TOKEN_FILE: tokenFile, NODE_OPTIONS: '' },
      stdio: 'ignore',
    })
    open.push({
      close: () => {
        child.kill('SIGKILL')
        return ended(child)
      },
    })
    return child
  }
  const startBoth = (): readonly ChildProcess[] => [start('left', left, right), start('right', right, left)]
  const both = startBoth()
  await coordinator.until(() => coordinator.connected.size === 2, 'both')
  // Until marbles move, a snapshot would show nothing.
  let result = await coordinator.cut(['left', 'right'])
  for (let round = 0; round < 50 && Number(stateOf(result, 'left')) === 100; round += 1) {
    result = await coordinator.cut(['left', 'right'])
  }
  for (let round = 0; round < 5; round += 1) {
    result = await coordinator.cut(['left', 'right'])
    expect(totalIn(result)).toBe(200)
  }
  for (const child of both) child.kill('SIGKILL')
  await Promise.all(both.map(ended))
  await coordinator.until(() => coordinator.connected.size === 0, 'the end of both')

  coordinator.stage('r1', result)
  coordinator.restoreAll([], { restore: 'r1', snapshot: 's1', generation: 2, epoch: coordinator.epoch + 1 })
  startBoth()
  const restored = (): number => coordinator.frames.filter(({ frame }) => frame.type === 'restored').length
  await coordinator.until(() => restored() === 2, 'both restored')
  expect(totalIn(await coordinator.cut(['left', 'right']))).toBe(200)
})
