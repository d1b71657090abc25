import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, fstatSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { zstdCompressSync } from 'node:zlib'
import { assert } from '@stillpoint/core/kernel'
import { describe, expect, onTestFinished, test } from 'vitest'
import { deriveGearTable } from '../chunk/gear-table.ts'
import { generateKeys, seal } from '../format/crypto.ts'
import { DamageError } from '../format/damage.ts'
import { sha256 } from '../format/ids.ts'
import { scanRules } from '../testing/scan-rules.ts'
import { scratch } from '../testing/testbed.ts'
import { clock, entropy } from '../testing/world.ts'
import { createSlabs } from './slabs.ts'
import { decodeTaskError, encodeTaskError } from './task-error.ts'
import type { TaskContext } from './tasks.ts'
import { createWorkPool, type WorkPool, type WorkPoolOptions } from './work-pool.ts'

const keys = generateKeys(entropy)
const context: TaskContext = { keys, gear: deriveGearTable(keys, '00'.repeat(32)) }
const faulty = new URL('../testing/faulty-worker.ts', import.meta.url)

function newPool(options: Partial<WorkPoolOptions> = {}): WorkPool {
  const pool = createWorkPool({ context: () => context, clock, threads: 2, inlineBytesMax: 0, ...options })
  onTestFinished(() => pool.close())
  return pool
}

/** Two blobs, one of them compressed, in shared memory. */
function sealedBlobs() {
  const [plain, text] = [randomBytes(300_000), Buffer.from('text '.repeat(50_000))]
  const parts = [seal(keys, plain, entropy), seal(keys, zstdCompressSync(text), entropy)]
  const sealed = Buffer.from(new SharedArrayBuffer(parts.reduce((sum, part) => sum + part.length, 0)))
  let offset = 0
  const blobs = [plain, text].map((content, at) => {
    const part = parts[at] ?? Buffer.alloc(0)
    sealed.set(part, offset)
    offset += part.length
    const plainBytes = content === text ? text.length : undefined
    return { id: sha256(content), offset: offset - part.length, length: part.length, plainBytes }
  })
  return { sealed, blobs, plaintext: Buffer.concat([plain, text]) }
}

const word = (id: string) => ({
  sealed: new Uint8Array(),
  blobs: [{ id, offset: 0, length: 0, plainBytes: undefined }],
})
const far = { bytes: 1 << 30 }

describe('the pool', () => {
  test('what a thread has opened stays open when the thread ends, also under a number that was used before', async () => {
    const home = await scratch()
    const pool = newPool({ threads: 1 })
    const warnings: string[] = []
    const warned = (warning: Error) => warnings.push(warning.message)
    process.on('warning', warned)
    onTestFinished(() => void process.off('warning', warned))
    const rules = await scanRules(0)
    const input = { rules, window: new Uint8Array(), earlier: [], trees: undefined, openMax: 1 }
    async function open() {
      const place = {
        folder: { fd: undefined, at: Buffer.from(`${dirname(home)}/`) },
        path: dirname(home),
        names: [basename(home)],
      }
      const { folders } = await pool.run('scanFolders', { ...input, ...place, looks: false }, far)
      const [folder] = folders
      assert(typeof folder === 'object', 'it is left open')
      return folder
    }
    for (let turn = 0; turn < 3; turn += 1) closeSync((await open()).fd)
    const { fd, names } = await open()
    await pool.close()
    expect(names).toEqual([])
    expect(fstatSync(fd).isDirectory()).toBe(true)
    closeSync(fd)
    expect(warnings).toEqual([])
  })

  test.each([0, 2])('with %d threads opens blobs into shared memory, and tells which are damaged', async (threads) => {
    const pool = newPool({ threads })
    const { sealed, blobs, plaintext } = sealedBlobs()
    const target = Buffer.from(new SharedArrayBuffer(plaintext.length))
    const opened = await pool.run('openBlobs', { sealed, blobs, target }, far)
    expect(opened).toEqual([
      { kind: 'opened', offset: 0, length: 300_000 },
      { kind: 'opened', offset: 300_000, length: 250_000 },
    ])
    expect(target.equals(plaintext)).toBe(true)
    sealed[300] = (sealed[300] ?? 0) ^ 4
    const [first, second] = await pool.run('openBlobs', { sealed, blobs }, far)
    expect([first?.kind, second?.kind]).toEqual(['damaged', 'opened'])
  })

  test('does little work in this thread, and ends its threads when there is none', async () => {
    let wake = () => {}
    const after = (_: number, call: () => void) => {
      wake = call
      return () => {}
    }
    const still = { ...clock, after }
    const pool = newPool({ clock: still, workerFile: faulty, inlineBytesMax: 1000 })
    const { sealed, blobs } = sealedBlobs()
    const kindOf = async (bytes: number) => (await pool.run('openBlobs', { sealed, blobs }, { bytes }))[0]?.kind
    expect(await kindOf(600)).toBe('opened') // the faulty worker knows only damage
    expect(await kindOf(600)).toBe('damaged')
    expect(await kindOf(1)).toBe('damaged')
    wake()
    expect(await kindOf(600)).toBe('opened')
  })

  test.each(['exit', 'throw'])('fails the tasks of a thread that dies (%s), and no others', async (fault) => {
    const pool = newPool({ workerFile: faulty, threads: 1 })
    const run = (id: string) => pool.run('openBlobs', word(id), far)
    // The thread has two tasks at a time: the one that kills it, and the next.
    const [first, dying, beside, ...rest] = await Promise.allSettled(
      ['ok', fault, 'beside', ...Array.from({ length: 20 }, () => 'ok')].map(run),
    )
    expect(first).toMatchObject({ status: 'fulfilled' })
    expect(dying).toMatchObject({ status: 'rejected', reason: { code: 'worker_failed', retry: 'later' } })
    expect(beside?.status).toBe('rejected')
    expect(rest.filter((result) => result.status === 'fulfilled')).toHaveLength(20)
  })

  test('an abort ends what has not begun at once, and what has begun when memory is free again', async () => {
    const pool = newPool({ workerFile: faulty, threads: 1 })
    const abort = new AbortController()
    const settled: string[] = []
    const all = ['slow', 'second', 'third', 'fourth'].map((id) =>
      pool.run('openBlobs', word(id), { ...far, signal: abort.signal }).catch((error: unknown) => {
        settled.push(id)
        return error
      }),
    )
    abort.abort(new Error('enough'))
    expect(await Promise.all(all)).toEqual(all.map(() => expect.objectContaining({ message: 'enough' })))
    expect(settled.slice(0, 2).sort()).toEqual(['fourth', 'third'])
    await expect(pool.run('openBlobs', word('x'), { ...far, signal: abort.signal })).rejects.toThrow('enough')
  })

  test('closed, fails what is under way, and can be used again', async () => {
    const pool = newPool({ workerFile: faulty, threads: 1 })
    const all = ['slow', 'slow', 'slow'].map((id) => pool.run('openBlobs', word(id), far))
    const ended = Promise.allSettled(all)
    await pool.close()
    for (const result of await ended) expect(result).toMatchObject({ reason: { code: 'worker_failed' } })
    expect(await pool.run('openBlobs', word('again'), far)).toHaveLength(1)
  })

  test('starts its threads when it is told that there will be work, and ends them when there is none', async () => {
    let wake = () => {}
    const after = (_: number, call: () => void) => {
      wake = call
      return () => {}
    }
    const pool = newPool({ clock: { ...clock, after }, workerFile: faulty, inlineBytesMax: 1000 })
    pool.startThreads()
    const { sealed, blobs } = sealedBlobs()
    const kindOf = async () => (await pool.run('openBlobs', { sealed, blobs }, { bytes: 1 }))[0]?.kind
    expect(await kindOf()).toBe('damaged') // by a thread: the faulty worker knows only damage
    wake()
    expect(await kindOf()).toBe('opened')
  })

  test('keeps no process alive', () => {
    const at = (path: string) => JSON.stringify(fileURLToPath(new URL(path, import.meta.url)))
    const program = `
      import { createWorkPool } from ${at('./work-pool.ts')}
      import { clock } from ${at('../testing/world.ts')}
      const context = { keys: { encrypt: new Uint8Array(32), macK: new Uint8Array(16), macR: new Uint8Array(16) } }
      const pool = createWorkPool({ context: () => context, clock, threads: 2, inlineBytesMax: 0 })
      await Promise.all([1, 2, 3].map(() => pool.run('openBlobs', { sealed: new Uint8Array(), blobs: [] }, { bytes: 1 })))
      createWorkPool({ context: () => context, clock, threads: 2 }).startThreads()
      console.log('done')`
    const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', program], {
      encoding: 'utf8',
      timeout: 4_500,
    })
    expect([stdout, stderr, status]).toEqual(['done\n', '', 0])
  })
})

describe('slabs', () => {
  test('are handed out in turn, no more than there may be, and an abort ends the wait', async () => {
    const slabs = createSlabs({ slabBytes: 10, slabsMax: 2 })
    const [one, two] = [await slabs.take(), await slabs.take()]
    expect(slabs.tryTake()).toBeUndefined()
    const abort = new AbortController()
    const [aborted, next] = [slabs.take(abort.signal), slabs.take()]
    abort.abort(new Error('enough'))
    await expect(aborted).rejects.toThrow('enough')
    one.release()
    expect((await next).bytes).toBe(one.bytes)
    expect(() => one.release()).toThrow('once')
    two.release()
    expect(slabs.taken).toBe(1)
  })
})

describe('errors of tasks', () => {
  test('arrive as what they were', () => {
    const passed = (error: unknown) => decodeTaskError(structuredClone(encodeTaskError(error)))
    expect(passed(new DamageError('torn'))).toBeInstanceOf(DamageError)
    expect(passed(Object.assign(new Error('gone'), { code: 'ENOENT' }))).toMatchObject({ code: 'ENOENT' })
    expect(passed(new TypeError('a bug'))).toMatchObject({ message: 'a bug' })
    expect(passed('text').message).toBe('text')
  })
})
