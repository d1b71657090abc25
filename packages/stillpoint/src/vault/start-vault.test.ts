/** How a vault starts and ends. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import type { Clock } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../system-env.ts'
import { isLoopback, startVault } from './start-vault.ts'
import { startVaultBench, userPassword, type VaultBench } from './workbench.ts'

const content = 'an upload under way'.repeat(100)
const name = createHash('sha256').update(content).digest('hex')

/** An upload of which half has been sent; resolves when the vault has begun to store it. */
async function halfUpload(bench: VaultBench) {
  await (await bench.store('/alice/')).prepare()
  const socket = connect(Number(new URL(bench.vault().url).port), '127.0.0.1')
  let text = ''
  socket.on('data', (data) => {
    text += data.toString('latin1')
  })
  socket.on('error', () => {}) // followed by close
  const closed = new Promise<string>((resolve) => socket.once('close', () => resolve(text)))
  const authorization = `Basic ${Buffer.from(`alice:${userPassword}`).toString('base64')}`
  const half = content.length / 2
  socket.write(
    `POST /alice/data/${name} HTTP/1.1\r\nhost: x\r\nauthorization: ${authorization}\r\ncontent-length: ${content.length}\r\n\r\n${content.slice(0, half)}`,
  )
  const uploads = join(bench.root, 'alice', '.uploads')
  while (((await readdir(uploads).catch(() => [])) as string[]).length === 0)
    await new Promise((resolve) => setTimeout(resolve, 10))
  return { finish: () => void socket.write(content.slice(half)), closed, uploads }
}

describe('ending', () => {
  test('lets an upload that runs end, and takes nothing new', async () => {
    await using bench = await startVaultBench()
    const { finish, closed } = await halfUpload(bench)
    const { url, close } = bench.vault()
    const closing = close()
    await new Promise((resolve) => setTimeout(resolve, 50))
    await expect(fetch(`${url}/alice/config`)).rejects.toThrow()
    finish()
    expect(await closed).toMatch(/^HTTP\/1\.1 200 /)
    await closing
    await bench.restart()
    expect(await (await bench.store('/alice/')).size({ kind: 'pack', name })).toBe(content.length)
  })

  test('does not wait for ever, and what is cut off is nothing', async () => {
    await using bench = await startVaultBench({ stopMs: 100 })
    const { closed, uploads } = await halfUpload(bench)
    await bench.vault().close()
    await closed
    expect(await readdir(uploads)).toEqual([])
    await bench.restart()
    expect(await (await bench.store('/alice/')).size({ kind: 'pack', name })).toBeUndefined()
  })
})

describe('starting', () => {
  test('a second vault on the directory is refused, and comes when the first has gone', async () => {
    await using bench = await startVaultBench()
    const options = {
      root: bench.root,
      usersFile: join(bench.root, '.users'),
      listen: { host: '127.0.0.1', port: 0 },
      clock: systemClock,
      log: () => {},
    }
    await expect(startVault(options)).rejects.toMatchObject({ code: 'vault_running' })
    await bench.vault().close()
    await (await startVault(options)).close()
  })

  test('a port that is taken, an address of another machine, a broken file of users: nothing is left running', async () => {
    await using bench = await startVaultBench()
    const root = join(bench.directory, 'other')
    await mkdir(root, { mode: 0o700 })
    const port = Number(new URL(bench.vault().url).port)
    const options = { root, usersFile: join(root, '.users'), clock: systemClock, log: () => {} }
    await expect(startVault({ ...options, listen: { host: '127.0.0.1', port } })).rejects.toMatchObject({
      code: 'port_in_use',
    })
    const foreign = { host: '192.0.2.1', port: 0 }
    await expect(startVault({ ...options, listen: foreign, insecureHttp: true })).rejects.toMatchObject({
      code: 'address_unusable',
    })
    await expect(startVault({ ...options, listen: foreign })).rejects.toMatchObject({ code: 'vault_insecure' })
    await writeFile(join(root, '.users'), 'nonsense\n')
    await expect(startVault({ ...options, listen: { host: '127.0.0.1', port: 0 } })).rejects.toMatchObject({
      code: 'users_file_invalid',
    })
    await writeFile(join(root, '.users'), '')
    await (await startVault({ ...options, listen: { host: '127.0.0.1', port: 0 } })).close()
  })

  test('what is this machine, and what is not', () => {
    for (const host of ['127.0.0.1', '127.9.9.9', '::1', '[::1]', 'localhost']) expect(isLoopback(host)).toBe(true)
    for (const host of ['0.0.0.0', '::', '10.0.0.1', '127.evil.example', 'localhost.evil.example'])
      expect(isLoopback(host)).toBe(false)
  })

  test('a replaced certificate is taken up without a restart; a broken one is not', async () => {
    const wakes: (() => void)[] = []
    /** Only the look at the certificate waits for as long as a minute. */
    const clock: Clock = {
      ...systemClock,
      after(delayMs, wake) {
        if (delayMs !== 60_000) return systemClock.after(delayMs, wake)
        wakes.push(wake)
        return () => {}
      },
    }
    await using scratch = await startVaultBench()
    const tls = { certFile: join(scratch.directory, 'cert.pem'), keyFile: join(scratch.directory, 'key.pem') }
    const make = (cn: string) => {
      const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
      const files = ['-keyout', tls.keyFile, '-out', tls.certFile]
      execFileSync('openssl', ['req', '-x509', ...key, ...files, '-days', '1', '-subj', `/CN=${cn}`], {
        stdio: 'ignore',
      })
    }
    make('first')
    await using bench = await startVaultBench({ tls, clock })
    const port = Number(new URL(bench.vault().url).port)
    const served = () =>
      new Promise<unknown>((resolve, reject) => {
        const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false }, () => {
          resolve(socket.getPeerCertificate().subject.CN)
          socket.destroy()
        })
        socket.once('error', reject)
      })
    const look = async (text: string) => {
      wakes.splice(0).map((wake) => wake())
      while (!bench.log.some(({ message }) => message.includes(text)))
        await new Promise((resolve) => setTimeout(resolve, 10))
    }
    expect(await served()).toBe('first')
    make('second')
    await look('was replaced')
    expect(await served()).toBe('second')
    await writeFile(tls.certFile, 'broken')
    while (wakes.length === 0) await new Promise((resolve) => setTimeout(resolve, 10))
    await look('goes on')
    expect(await served()).toBe('second')
  })
})
