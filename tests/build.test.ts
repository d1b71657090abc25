/** What is published works as it is installed: as JavaScript, below node_modules, without the checkout. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type TemporaryDirectory, temporaryDirectory } from '@stillpoint/testbed'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { installBuilt } from '../scripts/install-built.ts'

const run = promisify(execFile)
const tsc = fileURLToPath(new URL('../node_modules/.bin/tsc', import.meta.url))

let scratch: TemporaryDirectory
let command: string

beforeAll(async () => {
  scratch = await temporaryDirectory('build')
  command = installBuilt(scratch.path)
}, 180_000)
afterAll(() => scratch.remove())

test('the built command plays the demo', { timeout: 180_000 }, async () => {
  const { stdout } = await run(process.execPath, [command, 'demo', '--exit', '--json'], { cwd: scratch.path })
  expect(JSON.parse(stdout)).toMatchObject({ passed: true, verdict: 'consistent' })
  expect((await run(process.execPath, [command, '--version'])).stdout.trim()).toMatch(/^\d+\.\d+\.\d+$/)
})

/** Says at the end of a process which modules were loaded and how many threads were started. */
const witness = `
import { registerHooks } from 'node:module'
import { writeFileSync } from 'node:fs'
const urls = new Set()
let threads = 0
process.on('worker', () => { threads += 1 })
registerHooks({ resolve(specifier, context, next) {
  const resolved = next(specifier, context)
  urls.add(resolved.url)
  return resolved
} })
process.on('exit', () => {
  const builtins = process.moduleLoadList.map((entry) => entry.replace('NativeModule ', 'node:'))
  writeFileSync(process.env.WITNESSED, JSON.stringify({ urls: [...urls], builtins, threads }))
})
`

interface Witnessed {
  readonly urls: readonly string[]
  readonly builtins: readonly string[]
  readonly threads: number
}

async function repo(...args: string[]): Promise<Witnessed> {
  const [preload, told, password] = ['witness.mjs', 'told.json', 'password'].map((name) => join(scratch.path, name))
  if (preload === undefined || told === undefined || password === undefined) throw new Error('three names')
  await writeFile(preload, witness)
  await writeFile(password, 'of a test', { mode: 0o600 })
  const env = {
    PATH: process.env['PATH'],
    WITNESSED: told,
    RESTIC_REPOSITORY: join(scratch.path, 'repository'),
    RESTIC_PASSWORD_FILE: password,
  }
  await run(process.execPath, ['--import', preload, command, 'repo', ...args], { cwd: scratch.path, env })
  return JSON.parse(await readFile(told, 'utf8'))
}

test('a repository on a disk is backed up, by threads, without what only others need', async () => {
  const source = join(scratch.path, 'source')
  await mkdir(source)
  const content = randomBytes(24 << 20)
  await writeFile(join(source, 'large'), content)
  await repo('init')
  const { urls, builtins, threads } = await repo('backup', source)
  expect(threads).toBeGreaterThan(0)
  expect(urls.filter((url) => /@aws-sdk|fastify|node_modules\/(ws|pg|zod|yaml|ioredis)\//.test(url))).toEqual([])
  expect(builtins).not.toContain('node:http')
  expect(builtins).not.toContain('node:tls')
  expect(builtins).not.toContain('node:internal/deps/undici/undici')
  expect(builtins).toContain('node:worker_threads')
  // Each costs a millisecond. It is 22, of ours and of others; with a file for each of our modules it was 240.
  expect(urls.filter((url) => url.startsWith('file:')).length).toBeLessThan(40)
  const target = join(scratch.path, 'target')
  await repo('restore', 'latest', '--target', target)
  expect((await readFile(join(target, source, 'large'))).equals(content)).toBe(true)
})

test('what fails says where, in names that are those of the sources', async () => {
  const program = `
    import { openMemoryStore, openRepository } from '@stillpoint/repository'
    import { Failure } from '@stillpoint/core/kernel'
    try {
      await openRepository({ store: openMemoryStore(), password: '' })
    } catch (error) {
      console.log(error instanceof Failure, error.code)
      console.log(error.stack)
    }`
  const file = join(scratch.path, 'fails.mjs')
  await writeFile(file, program)
  const { stdout } = await run(process.execPath, [file])
  expect(stdout).toMatch(/^true repository_absent\n/)
  expect(stdout).toMatch(/at (async )?openVault \(/)
})

test('the exports have types', { timeout: 60_000 }, async () => {
  const program = `
    import { Failure, type StorePlan } from '@stillpoint/core'
    import { isFailure } from '@stillpoint/core/kernel'
    import { openLocalStore, openRepository, type Repository } from '@stillpoint/repository'
    import { join, type Participant } from '@stillpoint/sdk'
    import { bankTotal } from 'stillpoint'
    const opened: Promise<Repository> = openRepository({ store: openLocalStore('/nowhere'), password: 'secret' })
    // @ts-expect-error: a store is needed
    openRepository({ password: 'secret' })
    export const all = [opened, Failure, isFailure, join, bankTotal]
    export type Both = Participant | StorePlan`
  const folder = join(scratch.path, 'typed')
  await mkdir(folder)
  await writeFile(join(folder, 'consumer.ts'), program)
  const compilerOptions = {
    module: 'nodenext',
    target: 'es2024',
    lib: ['esnext'],
    types: ['node'],
    strict: true,
    noEmit: true,
    skipLibCheck: true,
  }
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['consumer.ts'] }))
  const checked = await run(tsc, ['-p', folder]).catch((error: { stdout?: string }) => ({ stdout: error.stdout }))
  expect(checked.stdout).toBe('')
})
