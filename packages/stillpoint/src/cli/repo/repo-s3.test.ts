/** The command on a repository on S3: a real server, stock restic beside it, and a system that is snapshot into it. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { listAll, openS3Store } from '@stillpoint/repository'
import { hasSwift, type SwiftServer, startSwift, temporaryDirectory } from '@stillpoint/testbed'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { run, start } from '../workbench.ts'
import { hasRestic } from './repo-workbench.ts'

const runFile = promisify(execFile)

describe.skipIf(!hasSwift() || !hasRestic)('stillpoint on S3 [needs python3-swift, restic]', () => {
  let swift: SwiftServer
  let directory: string
  let remove: () => Promise<void>
  beforeAll(async () => {
    swift = await startSwift()
    const made = await temporaryDirectory('s3')
    directory = made.path
    remove = made.remove
    await writeFile(join(directory, 'password'), 'secret\n', { mode: 0o600 })
    await mkdir(join(directory, 'source'))
    await writeFile(join(directory, 'source', 'a.txt'), 'hello')
    Object.assign(process.env, swift.env, {
      AWS_DEFAULT_REGION: swift.region,
      RESTIC_PASSWORD_FILE: join(directory, 'password'),
      RESTIC_CACHE_DIR: join(directory, 'cache'),
      RESTIC_CACERT: swift.caFile,
    })
  })
  afterAll(async () => {
    await swift?.stop()
    await remove?.()
  })

  async function ok(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await run(directory, args)
    if (code !== 0) throw new Error(`${args.join(' ')} ended with ${code}: ${stderr}`)
    return stdout
  }
  async function restic(location: string, ...args: readonly string[]): Promise<string> {
    const all = ['--cacert', swift.caFile, '-r', location, ...args]
    return (await runFile('restic', all, { cwd: directory })).stdout
  }

  test('init, backup, check, forget and prune; restic agrees; credentials from the environment', async () => {
    const location = `s3:${swift.tlsEndpoint}/commands/here`
    await ok('repo', 'init', '-r', location)
    await ok('repo', 'backup', '-r', location, 'source')
    expect(await restic(location, 'check', '--read-data')).toContain('no errors were found')
    await restic(location, 'backup', 'source')
    expect(JSON.parse(await ok('repo', 'snapshots', '-r', location, '--json'))).toHaveLength(2)
    await ok('repo', 'forget', '-r', location, '--keep-last', '1', '--group-by', '', '--prune')
    expect(await ok('repo', 'check', '-r', location, '--read-data')).toContain('no errors were found')
  })

  test('absent repositories, wrong secrets and options are told apart', async () => {
    const nowhere = await run(directory, ['repo', 'snapshots', '-r', `s3:${swift.tlsEndpoint}/nowhere/x`])
    expect(nowhere).toMatchObject({ code: 10, stderr: expect.stringContaining('repository_absent') })
    await writeFile(
      join(directory, 'wrong'),
      `[default]\naws_access_key_id=${swift.accessKeyId}\naws_secret_access_key=bad\n`,
    )
    const location = `s3:${swift.tlsEndpoint}/commands/here`
    const denied = await run(directory, ['repo', 'snapshots', '-r', location, '-o', 's3.credentials-file=wrong'])
    expect(denied).toMatchObject({ code: 1, stderr: expect.stringContaining('SignatureDoesNotMatch') })
    for (const option of [
      's3.storage-class=GLACIER',
      's3.object-lock=GOVERNANCE',
      's3.bucket-lookup=x',
      's3.as-of=2026-11-20',
      's3.x=1',
    ]) {
      const { code, stderr } = await run(directory, ['repo', 'snapshots', '-r', location, '-o', option])
      expect({ option, isRefused: code === 1 || code === 2, stderr }).toMatchObject({ isRefused: true })
      expect(stderr).toContain('ive ') // what to give instead
    }
  })

  test('a repository is seen as it was at a moment', async () => {
    const location = `s3:${swift.tlsEndpoint}/commands/here`
    const at = (time: string) => run(directory, ['repo', 'snapshots', '-r', location, '-o', `s3.as-of=${time}`])
    expect(await at('2001-01-01T00:00:00Z')).toMatchObject({ code: 10 })
    expect(await at('2101-01-01T00:00:00+01:00')).toMatchObject({ code: 0, stdout: expect.stringContaining('source') })
  })

  test('an interrupted backup gives its lock back', async () => {
    const location = `s3:${swift.tlsEndpoint}/commands/interrupted`
    await ok('repo', 'init', '-r', location)
    await mkdir(join(directory, 'large'))
    for (let at = 0; at < 8; at += 1) await writeFile(join(directory, 'large', `${at}`), randomBytes(8 << 20))
    const store = await openS3Store({ location, caFile: swift.caFile })
    const { child, ended } = start(directory, ['repo', 'backup', '-r', location, 'large'])
    while ((await listAll(store, 'lock')).length === 0) await new Promise((resolve) => setTimeout(resolve, 20))
    child.kill('SIGINT')
    expect(await ended).toMatchObject({ code: 130 })
    expect(await listAll(store, 'lock')).toEqual([])
    expect(await listAll(store, 'snapshot')).toEqual([])
  })

  test('a system is snapshot into it and verified; restic agrees', async () => {
    const keys = `[ours]\naws_access_key_id=${swift.accessKeyId}\naws_secret_access_key=${swift.secretAccessKey}\n`
    await writeFile(join(directory, 'aws'), keys, { mode: 0o600 })
    const application = join(directory, 'application')
    await mkdir(join(application, 'files'), { recursive: true })
    await writeFile(join(application, 'files', 'a'), 'content')
    const url = `s3:${swift.tlsEndpoint}/system/shop`
    await writeFile(
      join(application, 'stillpoint.yaml'),
      `version: 1
system: shop
repository:
  url: ${url}
  credentialsFile: ../aws
  caFile: ${swift.caFile}
  s3: { profile: ours, region: ${swift.region} }
  passwordFile: ../password
participants:
  uploads: { source: files, path: ./files }
`,
    )
    for (const args of [['init'], ['take'], ['verify', 'latest'], ['doctor']]) {
      const { code, stderr } = await run(application, args)
      expect({ args, code, stderr: code === 0 ? '' : stderr }).toEqual({ args, code: 0, stderr: '' })
    }
    expect(await restic(url, 'check', '--read-data')).toContain('no errors were found')
    expect(await restic(url, 'dump', 'latest', '/participants/uploads/tree/a')).toBe('content')
  })
})
