import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { guardProcess, temporaryDirectory } from '@stillpoint/testbed'
import { describe, expect, test } from 'vitest'
import { systemClock, systemEntropy } from '../system-env.ts'
import { connectOperations } from './client.ts'
import { findServer, isOurServer, readServerFile } from './find-server.ts'
import { isAuthorized, isProof, obtainToken, proofOfToken, readToken } from './token.ts'
import { joinedProcess, startTestServer, until } from './workbench.ts'

const context = { signal: new AbortController().signal, onEvent: () => {} }

/** A server in a process of its own; its first line: the URL, or the code of its failure. */
async function startKillable(directory: string) {
  const program = fileURLToPath(new URL('killable-workbench.ts', import.meta.url))
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', program, directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (child.pid !== undefined) {
    const guardian = guardProcess(child.pid, 'KILL')
    child.once('exit', () => guardian.dismiss())
  }
  const [line] = await once(child.stdout, 'data')
  return {
    child,
    line: String(line).trim(),
    async kill(signal: NodeJS.Signals) {
      child.kill(signal)
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    },
  }
}

async function modeOf(path: string): Promise<string> {
  return ((await stat(path)).mode & 0o777).toString(8)
}

describe('a server', () => {
  test('announces itself to this user only, is found, and leaves nothing but its token', async () => {
    await using directory = await temporaryDirectory('server')
    const server = await startTestServer({ directory })
    expect(await modeOf(server.tokenFile)).toBe('600')
    expect(await modeOf(join(directory.path, 'server.json'))).toBe('600')
    expect(await readServerFile(directory.path)).toMatchObject({ url: server.url, pid: process.pid, system: 'shop' })
    expect(new URL(server.url).hostname).toBe('127.0.0.1')
    expect(await findServer(directory.path)).toEqual({ url: server.url, token: server.token, pid: process.pid })
    await server.close()
    await server.close()
    expect(await findServer(directory.path)).toBeNull()
    const left = await readdir(directory.path)
    expect(left.filter((name) => !name.startsWith('catalog.sqlite')).sort()).toEqual(['.server.lock', 'token'])
  })

  test('keeps its token over restarts, and processes join again with it', async () => {
    await using directory = await temporaryDirectory('server')
    const first = await startTestServer({ directory })
    const { port } = new URL(first.url)
    await joinedProcess(first, 'orders')
    await first.close()
    const config = { server: { host: '127.0.0.1', port: Number(port) } }
    await using second = await startTestServer({ directory, config })
    expect([second.url, second.token]).toEqual([first.url, first.token])
    expect((await joinedProcess(second, 'orders')).welcome.type).toBe('welcome')
  })

  test('is refused while another one runs on the directory, and says where that is', async () => {
    await using server = await startTestServer()
    await expect(startTestServer({ directory: server.directory })).rejects.toMatchObject({
      code: 'server_running',
      message: expect.stringMatching(new RegExp(`process ${process.pid} at ${server.url}`)),
    })
    // The refused one has taken nothing away from the running one.
    expect(await findServer(server.directory.path)).toMatchObject({ url: server.url })
    const other = await startKillable(server.directory.path)
    expect(other.line).toBe('server_running')
    expect(await findServer(server.directory.path)).toMatchObject({ url: server.url })
  })

  test('of many that start at once, one runs', async () => {
    await using directory = await temporaryDirectory('server')
    const starts = await Promise.allSettled(Array.from({ length: 6 }, () => startTestServer({ directory })))
    const running = starts.filter(({ status }) => status === 'fulfilled')
    expect(running).toHaveLength(1)
    for (const start of starts) {
      if (start.status === 'rejected') expect(start.reason).toMatchObject({ code: 'server_running' })
      else {
        expect(await findServer(directory.path)).toMatchObject({ url: start.value.url })
        await start.value.close()
      }
    }
  })

  test('that was killed stops nobody: the next one starts at once, with the same token', async () => {
    await using directory = await temporaryDirectory('server')
    const first = await startKillable(directory.path)
    expect(await findServer(directory.path)).toMatchObject({ url: first.line, pid: first.child.pid })
    await first.kill('SIGKILL')
    expect(await readServerFile(directory.path)).toMatchObject({ pid: first.child.pid })
    expect(await findServer(directory.path)).toBeNull()
    const token = await readToken(join(directory.path, 'token'))
    await using second = await startTestServer({ directory })
    expect(second.token).toBe(token)
    expect(await findServer(directory.path)).toMatchObject({ url: second.url })
  })

  test('that stands still is still the one that runs', async () => {
    await using directory = await temporaryDirectory('server')
    const first = await startKillable(directory.path)
    first.child.kill('SIGSTOP')
    await expect(startTestServer({ directory })).rejects.toMatchObject({
      code: 'server_running',
      message: expect.stringContaining(`process ${first.child.pid}`),
    })
    await first.kill('SIGKILL')
  })

  test.each([
    ['half a file', '{"version":1,"url":"http://127.'],
    ['a file of another program', '{"pid":1}'],
    ['a port of another program', ''],
  ])('replaces %s', async (_what, text) => {
    await using directory = await temporaryDirectory('server')
    const other = createServer((_request, response) => response.end('{"status":"ok","proof":"00"}'))
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const address = other.address()
    const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`
    const file = { version: 1, url, pid: process.pid, startedAt: '2026-01-01T00:00:00.000Z', system: 'shop' }
    await writeFile(join(directory.path, 'server.json'), text === '' ? JSON.stringify(file) : text)
    expect(await findServer(directory.path)).toBeNull()
    const server = await startTestServer({ directory })
    expect(await findServer(directory.path)).toMatchObject({ url: server.url })
    await server.close()
    other.closeAllConnections()
    other.close()
  })

  test('that cannot have its port says so, and leaves the directory free', async () => {
    await using first = await startTestServer()
    await using directory = await temporaryDirectory('server')
    const config = { server: { host: '127.0.0.1', port: Number(new URL(first.url).port) } }
    await expect(startTestServer({ directory, config })).rejects.toMatchObject({
      code: 'port_in_use',
      message: expect.stringContaining(String(config.server.port)),
      hint: expect.stringContaining('server.port'),
    })
    const nowhere = { server: { host: '203.0.113.1', port: 0 } }
    await expect(startTestServer({ directory, config: nowhere })).rejects.toMatchObject({ code: 'address_unusable' })
    await using second = await startTestServer({ directory })
    expect(second.url).toMatch(/^http:/)
  })

  test('does not use a directory that everybody can write, and leaves its mode alone', async () => {
    await using directory = await temporaryDirectory('server')
    await chmod(directory.path, 0o777)
    await expect(startTestServer({ directory })).rejects.toMatchObject({
      code: 'state_directory_unusable',
      message: expect.stringContaining(directory.path),
    })
    expect(await modeOf(directory.path)).toBe('777')
  })

  test('that ends cancels what runs, waits for its release, and only then lets the sessions go', async () => {
    const order: string[] = []
    const server = await startTestServer({
      operations: {
        take: ({ tags }, { signal }) =>
          new Promise((_, reject) => {
            order.push(`begun ${tags.length}`)
            signal.addEventListener('abort', () => {
              order.push('cancelled')
              // To release holds takes a while, and sessions.
              systemClock.after(100, () => {
                order.push(`released with ${server.processes.connected().length} connected`)
                reject(signal.reason)
              })
            })
          }),
      },
    })
    await using _ = server
    await joinedProcess(server, 'orders')
    const client = connectOperations({ url: server.url, token: server.token, clock: systemClock })
    const taking = client.take({ allowInconsistent: false, tags: [] }, context).catch((error: unknown) => error)
    await until(() => order.length === 1, 'it has begun')
    const closing = server.close().then(() => order.push('closed'))
    await until(() => order.includes('cancelled'), 'it is cancelled')
    await expect(client.list(context)).rejects.toMatchObject({ code: 'server_stopping' })
    expect(await isOurServer(server.url, server.token)).toBe(true)
    await closing
    expect(await taking).toMatchObject({ code: 'server_stopping' })
    expect(order).toEqual(['begun 0', 'cancelled', 'released with 1 connected', 'closed'])
    await until(() => server.events.length === 1, 'the loss is told')
  })
})

describe('the token', () => {
  test('is 256 bits, and the same for all who ask for one at once', async () => {
    await using directory = await temporaryDirectory('token')
    const path = join(directory.path, 'token')
    const tokens = await Promise.all(Array.from({ length: 20 }, () => obtainToken(path, systemEntropy)))
    expect(new Set(tokens).size).toBe(1)
    expect(tokens[0]).toMatch(/^[0-9a-f]{64}$/)
    expect(await readdir(directory.path)).toEqual(['token'])
    expect((await readFile(path, 'utf8')).trim()).toBe(tokens[0])
  })

  test.each([
    ['readable by others', async (path: string) => chmod(path, 0o644), 'token_file_too_open'],
    ['short', async (path: string) => writeFile(path, 'abc\n'), 'token_file_damaged'],
    ['endless', async (path: string) => writeFile(path, 'a'.repeat(100_000)), 'token_file_damaged'],
  ])('in a file that is %s is not used, and the server says so', async (_what, spoil, code) => {
    await using directory = await temporaryDirectory('token')
    const path = join(directory.path, 'token')
    await obtainToken(path, systemEntropy)
    await spoil(path)
    await expect(startTestServer({ directory })).rejects.toMatchObject({ code, message: expect.stringContaining(path) })
  })

  test('is not read through a link', async () => {
    await using directory = await temporaryDirectory('token')
    const path = join(directory.path, 'token')
    await writeFile(join(directory.path, 'theirs'), `${'a'.repeat(64)}\n`, { mode: 0o600 })
    await symlink('theirs', path)
    await expect(readToken(path)).rejects.toMatchObject({ code: 'token_file_unreadable' })
  })

  test('lets in when it is whole, in a header of its form', () => {
    const token = 'a1'.repeat(32)
    expect(isAuthorized(`Bearer ${token}`, token)).toBe(true)
    expect(isAuthorized(`bearer ${token}`, token)).toBe(true)
    for (const header of [
      undefined,
      '',
      token,
      `Basic ${token}`,
      `Bearer ${token}0`,
      `Bearer ${token.slice(1)}`,
      'Bearer ',
    ]) {
      expect(isAuthorized(header, token)).toBe(false)
    }
  })

  test('is proved to one challenge only, by who has it', () => {
    const [token, challenge] = ['a1'.repeat(32), 'b2'.repeat(16)]
    expect(isProof(proofOfToken(token, challenge), token, challenge)).toBe(true)
    expect(isProof(proofOfToken(token, 'c3'.repeat(16)), token, challenge)).toBe(false)
    expect(isProof(proofOfToken('d4'.repeat(32), challenge), token, challenge)).toBe(false)
    expect(isProof('', token, challenge)).toBe(false)
  })
})
