/** What a server sees of `stillpoint repo`, and of restic: how they call themselves, and when they give a request up. */
import { execFile } from 'node:child_process'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import { newerResticName, newestRestic } from '@stillpoint/testbed'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { makeBench, type RepoBench } from './repo-workbench.ts'

type Respond = (request: IncomingMessage, response: ServerResponse) => void

let bench: RepoBench
beforeAll(async () => {
  bench = await makeBench()
})
afterAll(() => bench.remove())

let close = async () => {}
afterEach(() => close())

async function startServer(respond: Respond): Promise<string> {
  const server = createServer(respond)
  close = () =>
    new Promise((resolve) => {
      server.closeAllConnections()
      server.close(() => resolve())
    })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('no port')
  return `http://127.0.0.1:${address.port}/`
}

const absent = (response: ServerResponse) => response.writeHead(404).end()

/** A REST repository that is not there, and what was asked of it. */
async function asked(command: (location: string) => Promise<unknown>, delayed = 0) {
  const agents: (string | undefined)[] = []
  let silent = delayed
  const url = await startServer((request, response) => {
    agents.push(request.headers['user-agent'])
    silent -= 1
    if (silent < 0) absent(response)
  })
  const ended = await command(`rest:${url}`)
  await close()
  return { agents, ended }
}

describe('requests', () => {
  test('have the name that is given, or ours', async () => {
    const list = (...flags: readonly string[]) => asked((location) => bench.ours('snapshots', '-r', location, ...flags))
    const named = await list('--http-user-agent', 'Backup of bank/1.0 (nightly)')
    expect(named.ended).toMatchObject({ code: 10, stdout: '' })
    expect(new Set(named.agents)).toEqual(new Set(['Backup of bank/1.0 (nightly)']))
    expect(new Set((await list()).agents)).toEqual(new Set(['stillpoint']))
    expect((await list('--http-user-agent', 'two\nlines')).ended).toMatchObject({ code: 2, stdout: '' })
    if (!newestRestic.isHere || newestRestic.name !== newerResticName) return
    const theirs = await asked((location) =>
      restic(bench.directory, ['snapshots', '-r', location, '--http-user-agent', 'Backup of bank/1.0 (nightly)']),
    )
    expect(new Set(theirs.agents)).toEqual(new Set(named.agents))
  })

  test('that stand still are sent again', async () => {
    const list = (time: string) =>
      asked((location) => bench.ours('snapshots', '-r', location, '--stuck-request-timeout', time), 2)
    const begunMs = performance.now()
    const patient = await list('400ms')
    expect(patient.ended).toMatchObject({ code: 10 })
    expect(patient.agents.length).toBeGreaterThan(2)
    expect(performance.now() - begunMs).toBeGreaterThan(800)
    expect((await list('0')).ended).toMatchObject({ code: 2 })
    expect((await list('never')).ended).toMatchObject({ code: 2 })
  })
})

/** It fails: there is nothing to list. */
function restic(cwd: string, args: readonly string[]): Promise<void> {
  const env = { ...process.env, RESTIC_CACHE_DIR: join(cwd, 'cache of restic') }
  return new Promise((resolve) => execFile(newestRestic.command, [...args], { cwd, env }, () => resolve()))
}
