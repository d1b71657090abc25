/** The server over the real operations: a directory, a repository, the client, and nothing scripted. */
import { access, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure, participantName } from '@stillpoint/core/kernel'
import { type TemporaryDirectory, temporaryDirectory } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { SystemConfig } from '../config/system-config.ts'
import { openServedSystem } from '../coordinator/local-operations.ts'
import { initConfiguredRepository } from '../coordinator/open-repository.ts'
import type { OperationEvent, Operations } from '../coordinator/operations.ts'
import { sources } from '../sources/registry.ts'
import { systemClock, systemEntropy, systemRandom } from '../system-env.ts'
import { connectOperations, findServer } from './client.ts'
import { type StartedServer, startServer } from './start-server.ts'
import { testConfig, until } from './workbench.ts'

const env = { clock: systemClock, random: systemRandom, entropy: systemEntropy }
const take = { allowInconsistent: false, tags: [] }
let directory: TemporaryDirectory
let server: StartedServer
let client: Operations
const held = () => join(directory.path, 'held')
const slow = () => join(directory.path, 'slow')
const events: OperationEvent[] = []
const context = (signal = new AbortController().signal) => ({
  signal,
  onEvent: (event: OperationEvent) => void events.push(event),
})

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false, // what is asked: not there
  )
}

beforeAll(async () => {
  directory = await temporaryDirectory('served')
  const files = join(directory.path, 'invoices')
  await mkdir(files)
  await writeFile(join(files, 'a.txt'), 'first')
  await writeFile(join(directory.path, 'password'), 'correct horse\n', { mode: 0o600 })
  const options = sources.get('files')?.optionsSchema.parse({
    path: files,
    quiesceCommand: `touch ${held()}; if [ -e ${slow()} ]; then sleep 2; fi`,
    resumeCommand: `rm -f ${held()}`,
    clone: 'never',
  })
  const config: SystemConfig = testConfig(join(directory.path, 'state'), {
    baseDir: directory.path,
    repository: { path: join(directory.path, 'repository'), passwordFile: 'password' },
    participants: [
      {
        kind: 'store',
        name: participantName('invoices'),
        source: 'files',
        options: Object(options),
        writers: 'unknown',
      },
    ],
  })
  await initConfiguredRepository(config, { ...env, signal: new AbortController().signal })
  server = await startServer({ config, ...env, operationsFactory: openServedSystem, log: () => {} })
  const found = await findServer(config.stateDir)
  if (found === null) throw new Error('the server is not found')
  client = connectOperations({ ...found, clock: systemClock })
})

afterAll(async () => {
  await server?.close()
  await directory?.remove()
})

describe('a snapshot through the server', () => {
  test('is taken with progress, listed, shown, verified, compared, restored and deleted', async () => {
    const first = await client.take(take, context())
    expect(first).toMatchObject({ system: 'shop', verdict: 'consistent', participants: 1 })
    const phases = events.flatMap((event) => (event.type === 'phase' ? [event.phase] : []))
    expect(phases).toEqual(expect.arrayContaining(['prepare', 'quiesce', 'mark', 'resume', 'capture', 'seal']))
    expect(await isThere(held())).toBe(false)

    const file = join(directory.path, 'invoices', 'a.txt')
    await writeFile(file, 'second, and longer')
    const second = await client.take(take, context())
    const listed = await client.list(context())
    expect(listed.map(({ id }) => id).sort()).toEqual([first.id, second.id].sort())
    expect(await client.show(first.id.slice(0, 12), context())).toEqual(first)
    expect(await client.verify(second.id, context())).toMatchObject({ passed: true, verdict: 'consistent' })
    const diff = await client.diff(first.id, second.id, context())
    expect(diff.participants).toMatchObject([{ name: 'invoices', change: 'changed' }])

    const restore = { snapshot: first.id, participants: [], replace: false, toConfig: null }
    await expect(client.restore(restore, context())).rejects.toMatchObject({
      name: 'Failure',
      hint: expect.any(String),
    })
    expect(await readFile(file, 'utf8')).toBe('second, and longer')
    const restored = await client.restore({ ...restore, replace: true }, context())
    expect(restored.participants).toMatchObject([{ name: 'invoices', outcome: 'restored' }])
    expect(await readFile(file, 'utf8')).toBe('first')

    expect(await client.remove(second.id, context())).toEqual({ id: second.id })
    await expect(client.show(second.id, context())).rejects.toMatchObject({ code: 'snapshot_absent' })
  })

  test('that is cancelled while its store is held leaves no hold, and the next one works (C7)', async () => {
    const before = (await client.list(context())).length
    await writeFile(slow(), '')
    const stop = new AbortController()
    const taking = client.take(take, context(stop.signal)).catch((error: unknown) => error)
    while (!(await isThere(held()))) await new Promise<void>((wake) => systemClock.after(5, wake))
    const reason = new Failure({ code: 'interrupted', message: 'Ctrl-C' })
    stop.abort(reason)
    expect(await taking).toBe(reason)
    await rm(slow())
    let isHeld = true
    const watch = async () => {
      while (isHeld) {
        isHeld = await isThere(held())
        await new Promise<void>((wake) => systemClock.after(10, wake))
      }
    }
    void watch()
    await until(() => !isHeld, 'the hold is released')
    expect(await client.list(context())).toHaveLength(before)
    let taken: string | undefined
    while (taken === undefined) {
      // The cancelled one may still be at its release.
      taken = await client.take(take, context()).then(
        ({ verdict }) => verdict,
        (error: unknown) => {
          if (error instanceof Failure && error.code === 'system_busy') return undefined
          throw error
        },
      )
    }
    expect(taken).toBe('consistent')
  })
})
