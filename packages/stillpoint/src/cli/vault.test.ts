/** The vault as its own process: users by command, a system that is taken into it and restored from it, kill -9. */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { listAll, openRestStore } from '@stillpoint/repository'
import { freePort, hasTool, newestRestic } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { z } from 'zod'
import { vaultServeResultSchema } from './vault.ts'
import { vaultTokenSchema, vaultUserListSchema, vaultUserSchema } from './vault-users.ts'
import { run, type Started, start } from './workbench.ts'

const binary = fileURLToPath(new URL('../../bin/stillpoint.js', import.meta.url))
let directory = ''
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'stillpoint-vault-'))
  await writeFile(join(directory, 'pw'), 'alice secret\n', { mode: 0o600 })
})
afterAll(() => rm(directory, { recursive: true, force: true }))

async function json<T extends z.ZodType>(schema: T, args: readonly string[]): Promise<z.output<T>> {
  const { code, stdout, stderr } = await run(directory, [...args, '--json'])
  expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' })
  return schema.parse(JSON.parse(stdout))
}

async function serve(data: string, ...more: string[]): Promise<{ readonly vault: Started; readonly url: string }> {
  const vault = start(directory, [
    'vault',
    'serve',
    '--data',
    data,
    '--listen',
    `127.0.0.1:${await freePort()}`,
    '--json',
    ...more,
  ])
  let text = ''
  vault.child.stdout?.on('data', (data: Buffer) => {
    text += data.toString('utf8')
  })
  await vault.shows('"url"')
  return { vault, url: vaultServeResultSchema.parse(JSON.parse(text)).url }
}

describe('users', () => {
  test('are added, listed, changed and removed; no secret is in the file', async () => {
    const place = ['--data', 'users-vault']
    const added = await json(vaultUserSchema, [
      'vault',
      'user',
      'add',
      'alice',
      ...place,
      '--password-file',
      'pw',
      '--quota',
      '2G',
    ])
    expect(added).toMatchObject({ user: 'alice', password: true, appendOnly: false, quotaBytes: 2 * 1024 ** 3 })
    const token = await json(vaultTokenSchema, [
      'vault',
      'token',
      'add',
      'alice',
      '--label',
      'web1',
      '--append-only',
      ...place,
    ])
    expect(token.token).toMatch(/^spv_[0-9a-f]{64}$/)
    await json(vaultUserSchema, ['vault', 'user', 'add', 'alice', ...place, '--password-file', 'pw', '--append-only'])
    const { users } = await json(vaultUserListSchema, ['vault', 'user', 'list', ...place])
    expect(users).toEqual([
      {
        user: 'alice',
        password: true,
        appendOnly: true,
        quotaBytes: null,
        tokens: [{ label: 'web1', appendOnly: true }],
      },
    ])
    const file = await readFile(join(directory, 'users-vault', '.users'), 'utf8')
    expect(file).not.toContain('alice secret')
    expect(file).not.toContain(token.token)
    await json(vaultUserListSchema, ['vault', 'token', 'remove', 'alice', '--label', 'web1', ...place])
    expect((await json(vaultUserListSchema, ['vault', 'user', 'remove', 'alice', ...place])).users).toEqual([])
  })

  test('a password comes from stdin where that is no terminal', async () => {
    const child = spawn(process.execPath, [binary, 'vault', 'user', 'add', 'bob', '--data', 'stdin-vault', '--json'], {
      cwd: directory,
    })
    child.stdin.end('from stdin\n')
    const code = await new Promise((resolve) => child.once('close', resolve))
    expect(code).toBe(0)
    expect(await readFile(join(directory, 'stdin-vault', '.users'), 'utf8')).toMatch(/^bob:\$scrypt\$ln=15,r=8,p=1\$/)
  })

  test.each([
    ['a name with a path in it', ['user', 'add', '../alice'], 'A user has 1 to 64'],
    ['a folder of repositories', ['user', 'add', 'data'], 'is a folder of repositories'],
    ['no address', ['serve', '--listen', '8000'], 'Give a host and a port'],
    ['no size', ['serve', '--quota', 'much'], 'Give a number of bytes'],
    ['half of TLS', ['serve', '--tls-cert', 'x'], 'belong together'],
    ['the open network without TLS', ['serve', '--listen', '0.0.0.0:0'], 'unencrypted'],
    ['metrics for everybody', ['serve', '--metrics', '0.0.0.0:0'], 'names of users'],
  ])('%s is refused', async (_, args, message) => {
    const { code, stderr } = await run(directory, ['vault', ...args, '--data', 'refused'])
    expect(stderr).toContain(message)
    expect(code).not.toBe(0)
  })
})

describe('the process', () => {
  test('a system is taken into it over its URL, verified and listed; stock restic agrees; it stops in order', async () => {
    const added = await run(directory, ['vault', 'user', 'add', 'alice', '--data', 'vault', '--password-file', 'pw'])
    expect(added).toMatchObject({ code: 0 })
    const { vault, url } = await serve('vault')
    const second = await run(directory, ['vault', 'serve', '--data', 'vault', '--listen', '127.0.0.1:0'])
    expect(second.stderr).toContain('error[vault_running]')
    await writeFile(join(directory, 'credentials'), 'alice:alice secret\n', { mode: 0o600 })
    await writeFile(join(directory, 'repository-password'), 'of the repository\n', { mode: 0o600 })
    await mkdir(join(directory, 'files'))
    await writeFile(join(directory, 'files', 'a'), 'content')
    await writeFile(
      join(directory, 'stillpoint.yaml'),
      `version: 1\nsystem: shop\nrepository: { url: "rest:${url}/alice/shop/", credentialsFile: credentials, passwordFile: repository-password }\nparticipants:\n  uploads: { source: files, path: ./files }\n`,
    )
    for (const args of [['init'], ['take'], ['verify', 'latest'], ['doctor']]) {
      const { code, stderr } = await run(directory, args)
      expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' })
    }
    expect((await run(directory, ['list'])).stdout).toContain('consistent')
    if (hasTool('restic')) {
      const repository = join(directory, 'vault', 'alice', 'shop')
      const args = [
        '-r',
        repository,
        '--password-file',
        join(directory, 'repository-password'),
        '--no-cache',
        'check',
        '--read-data',
      ]
      const child = spawn(newestRestic.command, args, { stdio: 'ignore' })
      expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0)
    }
    vault.child.kill('SIGTERM')
    expect(await vault.ended).toMatchObject({ code: 0 })
  })

  test('killed during an upload, it has nothing of it listed, and the next life removes what lies about', async () => {
    const { vault, url } = await serve('vault')
    const { port } = new URL(url)
    const name = createHash('sha256').update('never whole').digest('hex')
    const authorization = `Basic ${Buffer.from('alice:alice secret').toString('base64')}`
    const socket = connect(Number(port), '127.0.0.1')
    socket.on('error', () => {}) // cut by the kill
    socket.write(
      `POST /alice/shop/data/${name} HTTP/1.1\r\nhost: x\r\nauthorization: ${authorization}\r\ncontent-length: 1000000\r\n\r\n${'x'.repeat(400_000)}`,
    )
    const uploads = join(directory, 'vault', 'alice', '.uploads')
    await waitUntil(async () => (await readdir(uploads)).length === 1)
    vault.child.kill('SIGKILL')
    await vault.ended
    expect(await readdir(uploads)).toHaveLength(1)
    const next = await serve('vault')
    expect(await readdir(uploads)).toEqual([])
    const store = await openRestStore({
      url: `${next.url}/alice/shop/`,
      credentialsFile: join(directory, 'credentials'),
    })
    expect((await listAll(store, 'pack')).map((each) => each.name)).not.toContain(name)
    expect(await store.size({ kind: 'pack', name })).toBeUndefined()
    next.vault.child.kill('SIGINT')
    expect(await next.vault.ended).toMatchObject({ code: 0 })
    socket.destroy()
  })
})

async function waitUntil(isSo: () => Promise<boolean>): Promise<void> {
  // Only a hang takes as long.
  const endMs = performance.now() + 30_000
  while (!(await isSo())) {
    if (performance.now() > endMs) throw new Error('it did not come to it')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
