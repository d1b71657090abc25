import { spawn, spawnSync } from 'node:child_process'
import { access, readFile, stat, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import {
  findTool,
  freePort,
  hasCeph,
  hasSwift,
  hasTool,
  missingRequirements,
  newestRestic,
  packagesOf,
  type RedisServer,
  requirements,
  restics,
  smallDisk,
  startCeph,
  startPostgres,
  startRedis,
  startSwift,
  temporaryDirectory,
} from './index.ts'
import { onFreePorts } from './port.ts'

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

async function eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within 10 s: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** One inline command; the answer's first line, `silence` after 300 ms, or `refused`. */
function ask(server: RedisServer, command: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: server.host, port: server.port })
    const answer = (text: string) => {
      resolve(text)
      socket.destroy()
    }
    socket.setTimeout(300, () => answer('silence'))
    socket.once('connect', () => socket.write(`${command}\r\n`))
    socket.once('data', (bytes) => answer(bytes.toString('latin1').split('\r\n')[0] ?? ''))
    socket.once('error', () => answer('refused'))
  })
}

describe('tools and directories', () => {
  test('a tool is found by its absolute path, a missing one is not', () => {
    expect(findTool('sh')).toMatch(/^\/.*\/sh$/)
    expect(hasTool('no-such-program-anywhere')).toBe(false)
  })
  test('what is missing is named by its package, each once', () => {
    expect(requirements.map((each) => each.package)).toContain('restic')
    expect(missingRequirements().every((each) => !hasTool(each.tool))).toBe(true)
    const servers = ['postgresql', 'postgresql-client', 'redis-server']
    expect(packagesOf(requirements)).toEqual([
      ...servers,
      'openssl',
      'attr',
      'acl',
      'bsdutils',
      'restic',
      'ncdu',
      'borgbackup',
      'time',
      'python3-swift',
      'ceph-mon',
      'ceph-osd',
      'radosgw',
    ])
  })
  test('restic is there in each version that we are compatible with, the newest last', ({ skip }) => {
    if (!restics.every(({ isHere }) => isHere)) return skip('restic is not here, or not in all versions')
    const versions = restics.map(({ command }) => spawnSync(command, ['version'], { encoding: 'utf8' }).stdout)
    expect(versions.at(-1)).toMatch(/^restic (0\.(1[89]|[2-9]\d)|[1-9])/)
    expect(newestRestic).toBe(restics.at(-1))
    expect(new Set(versions).size).toBe(restics.length)
  })
  test('a temporary directory is private, and removed with its content', async () => {
    const directory = await temporaryDirectory('x')
    expect((await stat(directory.path)).mode & 0o777).toBe(0o700)
    await writeFile(`${directory.path}/file`, 'x')
    await directory.remove()
    await directory.remove()
    expect(await exists(directory.path)).toBe(false)
  })
  test('a free port can be bound', async () => {
    expect(await freePort()).toBeGreaterThan(1023)
  })
  test('a small disk is full when it says so, and has room once it is larger', async ({ skip }) => {
    await using disk = await smallDisk(1 << 20)
    if (disk === undefined) return skip('this process may not mount a file system')
    await writeFile(`${disk.path}/small`, 'kept')
    await expect(writeFile(`${disk.path}/big`, Buffer.alloc(2 << 20))).rejects.toThrow('ENOSPC')
    await disk.resize(4 << 20)
    await writeFile(`${disk.path}/big`, Buffer.alloc(2 << 20))
    expect(await readFile(`${disk.path}/small`, 'utf8')).toBe('kept')
  })
})

describe.skipIf(!hasTool('redis-server'))('a Redis server [needs redis-server]', () => {
  test('starts with a password, is killed, comes back, freezes, and leaves nothing', async () => {
    await using server = await startRedis({ password: 'a "quoted" one', args: ['--appendonly', 'yes'] })
    expect(await ask(server, 'PING')).toBe('-NOAUTH Authentication required.')
    expect(await ask(server, `AUTH "a \\"quoted\\" one"`)).toBe('+OK')
    await server.pause()
    expect(await ask(server, 'PING')).toBe('silence')
    await server.unpause()
    expect(await ask(server, 'PING')).toBe('-NOAUTH Authentication required.')
    await server.kill()
    expect(await ask(server, 'PING')).toBe('refused')
    await server.restart()
    expect(await ask(server, 'PING')).toBe('-NOAUTH Authentication required.')
    await server.stop()
    expect(await exists(server.dataDir)).toBe(false)
  })
  test('one that cannot start says why', async () => {
    await expect(startRedis({ args: ['--no-such-setting', '1'] })).rejects.toThrow(
      /ended while starting.*Bad directive/s,
    )
  })
  test('a port that somebody else has taken is told, and another one tried', async () => {
    await using first = await startRedis()
    const taken = { args: ['--port', String(first.port)] }
    await expect(startRedis(taken)).rejects.toThrow('Address already in use')
    let tries = 0
    await using second = await onFreePorts(() => {
      tries += 1
      return startRedis(tries === 1 ? taken : {})
    })
    expect(tries).toBe(2)
    expect(await ask(second, 'PING')).toBe('+PONG')
  })
  test.each(['SIGTERM', 'SIGINT', 'SIGKILL'] as const)('does not outlive a parent that gets %s', async (signal) => {
    const index = fileURLToPath(new URL('./index.ts', import.meta.url))
    const program = `
      const { startRedis } = await import(${JSON.stringify(index)})
      const server = await startRedis()
      console.log(JSON.stringify({ port: server.port, host: server.host, dataDir: server.dataDir }))
      setInterval(() => {}, 1000)`
    const parent = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const said = await new Promise<string>((resolve) => parent.stdout.once('data', (bytes) => resolve(String(bytes))))
    const server: RedisServer = JSON.parse(said)
    expect(await ask(server, 'PING')).toBe('+PONG')
    parent.kill(signal)
    await eventually('the server is gone', async () => (await ask(server, 'PING')) === 'refused')
    await eventually('its directory is gone', async () => !(await exists(server.dataDir)))
  })
})

describe.skipIf(!hasTool('initdb'))('a PostgreSQL server [needs postgresql]', () => {
  test('starts with databases and settings, is killed, comes back, and leaves nothing', async () => {
    await using server = await startPostgres({ databases: ['shop', 'odd "name"'], settings: { work_mem: '5MB' } })
    await server.sql('odd "name"', 'CREATE TABLE t (a int); INSERT INTO t VALUES (7);')
    expect(await server.sql('shop', 'SHOW work_mem')).toBe('5MB')
    expect(await server.sql('shop', 'SHOW fsync')).toBe('on')
    await expect(server.sql('shop', 'SELECT 1/0')).rejects.toThrow('division by zero')
    await server.kill()
    await expect(server.sql('shop', 'SELECT 1')).rejects.toThrow('Connection refused')
    await server.restart()
    expect(await server.sql('odd "name"', 'SELECT a FROM t')).toBe('7')
    await server.stop()
    expect(await exists(server.dataDir)).toBe(false)
  })
})

describe.skipIf(!hasSwift())('a Swift cluster [needs python3-swift]', () => {
  test('answers with all nodes but one, comes back, and leaves nothing', async () => {
    await using server = await startSwift()
    // In Swift's own words, so that nothing here has to sign as S3 does.
    const login = { 'x-auth-user': server.accessKeyId, 'x-auth-key': server.secretAccessKey }
    const { headers } = await fetch(`${server.endpoint}/auth/v1.0`, { headers: login })
    const [token, url] = [headers.get('x-auth-token') ?? '', headers.get('x-storage-url') ?? '']
    const ask = (method: string, path: string, body?: string) =>
      fetch(url + path, { method, headers: { 'x-auth-token': token }, ...(body === undefined ? {} : { body }) })
    expect((await ask('PUT', '/bucket')).status).toBe(201)
    await server.storage[1]?.kill()
    expect((await ask('PUT', '/bucket/object', 'content')).status).toBe(201)
    expect(await (await ask('GET', '/bucket/object')).text()).toBe('content')
    await server.storage[1]?.restart()
    await server.storage[2]?.kill()
    expect(await (await ask('GET', '/bucket/object')).text()).toBe('content')
    await server.proxy.kill()
    await expect(ask('GET', '/bucket/object')).rejects.toThrow('fetch failed')
    await server.proxy.restart()
    expect((await fetch(`${server.endpoint}/healthcheck`)).status).toBe(200)
    const folder = server.caFile.replace(/\/[^/]*$/, '')
    expect(await exists(folder)).toBe(true)
    await server.stop()
    expect(await exists(folder)).toBe(false)
    await expect(fetch(`${server.endpoint}/healthcheck`)).rejects.toThrow('fetch failed')
  })
})

describe.skipIf(!hasCeph())('a Ceph cluster [needs ceph-mon, ceph-osd, radosgw]', () => {
  test('serves users of its own, is killed, comes back, and leaves nothing', async () => {
    await using server = await startCeph()
    const ask = () => fetch(server.endpoint, { signal: AbortSignal.timeout(20_000) })
    expect(await (await ask()).text()).toContain('<ListAllMyBucketsResult')
    const other = await server.addUser('other')
    expect(other.accessKeyId).not.toBe(server.accessKeyId)
    await expect(server.addUser('other')).rejects.toThrow(/radosgw-admin .*other.* failed/)
    await server.gateway.kill()
    await expect(ask()).rejects.toThrow('fetch failed')
    await server.storage[0]?.kill()
    await server.storage[0]?.restart()
    await server.gateway.restart()
    expect((await ask()).status).toBe(200)
    expect(await exists(server.folder)).toBe(true)
    await server.stop()
    expect(await exists(server.folder)).toBe(false)
    await expect(ask()).rejects.toThrow('fetch failed')
  })
})
