/** Discovery against real servers and files, and what is written of it against the real schemas. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { freePort, hasTool, startPostgres, startRedis, temporaryDirectory } from '@stillpoint/testbed'
import { describe, expect, onTestFinished, test } from 'vitest'
import { parseConfig } from '../config/load.ts'
import { configTemplate } from './config-template.ts'
import { optionSchemas } from './context.ts'
import { discoverStores, type FoundStore, foundText } from './discover.ts'

const nowhere = {
  directory: '/nonexistent',
  postgresSocketDirs: [],
  postgresPorts: [],
  redisSockets: [],
  redisPorts: [],
}
const { signal } = new AbortController()

/** The participants that the written configuration declares, checked by the sources' own schemas. */
async function declared(stores: readonly FoundStore[]) {
  const text = configTemplate({ system: 'shop', stores })
  const parsed = parseConfig(text, { optionSchemas: await optionSchemas(), path: '/srv/stillpoint.yaml' })
  if (parsed.state === 'invalid') throw new Error(parsed.problems.map(({ what }) => what).join('\n'))
  return parsed.config.participants
}

test('finds databases by their content, and directories by their name', async () => {
  const { path, remove } = await temporaryDirectory('stillpoint-discover')
  onTestFinished(remove)
  await mkdir(join(path, 'data'))
  await mkdir(join(path, 'uploads', 'media'), { recursive: true })
  await mkdir(join(path, 'node_modules', 'x', 'uploads'), { recursive: true })
  const database = new DatabaseSync(join(path, 'data', 'app.sqlite'))
  database.exec('CREATE TABLE t (a)')
  database.close()
  await writeFile(join(path, 'thumbs.db'), 'not a database at all')
  await writeFile(join(path, 'empty.db'), '')
  const found = await discoverStores({ ...nowhere, directory: path }, signal)
  expect(found).toEqual([
    { kind: 'sqlite', path: './data/app.sqlite' },
    { kind: 'files', path: './uploads' },
  ])
  expect(await declared(found)).toMatchObject([
    { name: 'data-app', source: 'sqlite' },
    { name: 'uploads', source: 'files' },
  ])
})

test('does not take another server on the port for a store', async () => {
  const port = await freePort()
  const server = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
  await new Promise<void>((listening) => server.listen(port, '127.0.0.1', listening))
  onTestFinished(() => {
    server.close()
  })
  expect(await discoverStores({ ...nowhere, postgresPorts: [port], redisPorts: [port] }, signal)).toEqual([])
})

describe.skipIf(!hasTool('redis-server'))('Redis [needs redis-server]', () => {
  test('is found at its port, with or without a password', async () => {
    const open = await startRedis()
    onTestFinished(() => open.stop())
    const closed = await startRedis({ password: 'a-password-of-tests' })
    onTestFinished(() => closed.stop())
    const [first] = await discoverStores({ ...nowhere, redisPorts: [open.port] }, signal)
    expect(first).toMatchObject({ kind: 'redis', needsPassword: false })
    const [second] = await discoverStores({ ...nowhere, redisPorts: [closed.port] }, signal)
    if (first === undefined || second === undefined) throw new Error('not found')
    expect(foundText(second)).toBe(`Redis at localhost:${closed.port}, with a password`)
    expect(await declared([first, second])).toMatchObject([
      { name: 'redis', options: { port: open.port } },
      { name: 'redis-2', options: { port: closed.port, passwordFile: './redis-2-password' } },
    ])
    const socket: FoundStore = { kind: 'redis', place: { socket: '/run/redis/redis.sock' }, needsPassword: false }
    expect(await declared([socket])).toMatchObject([{ options: { host: '/run/redis/redis.sock' } }])
  })
})

describe.skipIf(!hasTool('initdb'))('PostgreSQL [needs postgresql]', () => {
  test('is found, and its databases where the user may see them', async () => {
    const server = await startPostgres({ databases: ['orders', 'payments'], unsafe: true })
    onTestFinished(() => server.stop())
    const look = () => discoverStores({ ...nowhere, postgresPorts: [server.port] }, signal)
    const [refused] = await look()
    expect(refused).toMatchObject({ kind: 'postgres', port: server.port, databases: null })
    if (refused === undefined) throw new Error('not found')
    expect(foundText(refused)).toMatch(/^PostgreSQL at localhost, port \d+; its databases cannot be listed: .+/)

    const user = userInfo().username
    const rules = join(server.dataDir, 'pg_hba.conf')
    await writeFile(rules, `host all ${user} 127.0.0.1/32 trust\n${await readFile(rules, 'utf8')}`)
    await server.sql('postgres', `CREATE ROLE "${user}" LOGIN; SELECT pg_reload_conf()`)
    await expect
      .poll(async () => (await look())[0], { timeout: 5_000 })
      .toMatchObject({ databases: ['orders', 'payments'] })
    expect(await declared(await look())).toMatchObject([
      { name: 'orders', source: 'postgres', options: { database: 'orders', user } },
      { name: 'payments', source: 'postgres', options: { database: 'payments', user } },
    ])
  })
})
