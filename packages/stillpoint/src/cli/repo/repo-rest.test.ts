/** `stillpoint repo` on a REST server with TLS, by the variables that restic's users have set. */
import { execFileSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { startVaultBench, userPassword } from '../../vault/workbench.ts'
import { run } from '../workbench.ts'

afterEach(() => vi.unstubAllEnvs())

test('name, password and trust come from the environment, or from options', async () => {
  await using bench = await startVaultBench()
  const [keyFile, certFile] = [join(bench.directory, 'key.pem'), join(bench.directory, 'cert.pem')]
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  execFileSync('openssl', ['req', '-x509', ...kind, '-keyout', keyFile, '-out', certFile, '-days', '1', ...subject], {
    stdio: 'ignore',
  })
  await bench.restart({ tls: { keyFile, certFile } })
  const directory = join(bench.directory, 'client')
  await mkdir(join(directory, 'source'), { recursive: true })
  await writeFile(join(directory, 'source', 'file'), 'content')
  await writeFile(join(directory, 'password'), 'secret', { mode: 0o600 })
  vi.stubEnv('RESTIC_REPOSITORY', `rest:${bench.url('/alice/')}`)
  vi.stubEnv('RESTIC_PASSWORD_FILE', join(directory, 'password'))
  vi.stubEnv('RESTIC_CACHE_DIR', join(directory, 'cache'))
  const ours = (...args: readonly string[]) => run(directory, ['repo', ...args])
  expect((await ours('init')).stderr).toContain('certificate is not trusted')
  vi.stubEnv('RESTIC_CACERT', certFile)
  expect((await ours('init')).stderr).toContain('error[storage_denied]')
  vi.stubEnv('RESTIC_REST_USERNAME', 'alice')
  vi.stubEnv('RESTIC_REST_PASSWORD', userPassword)
  const made = await ours('init', '-o', 'rest.connections=3')
  expect(made).toMatchObject({ code: 0 })
  expect(made.stderr).toContain('stands in RESTIC_REST_PASSWORD')
  expect(made.stderr).not.toContain(userPassword)
  vi.stubEnv('RESTIC_CACERT', '')
  const trusting = ['--insecure-tls', '--cleanup-cache']
  expect(await ours('backup', 'source', ...trusting)).toMatchObject({ code: 0 })
  expect((await ours('ls', 'latest', ...trusting)).stdout).toContain('/source/file')
  expect((await ours('snapshots', '--cacert', certFile, '--cacert', certFile)).code).toBe(2)
  expect((await ours('snapshots', '--insecure-tls', '-o', 'rest.connections=0')).code).toBe(2)
  vi.stubEnv('RESTIC_TLS_CLIENT_CERT', join(directory, 'nowhere.pem'))
  expect((await ours('snapshots')).stderr).toContain('the certificate of this client')
})
