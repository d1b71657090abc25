/** What is left of a repository when it has been closed: nothing in this process, and no lock. */
import { spawnSync } from 'node:child_process'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { listAll } from './blob/blob-store.ts'
import { openLocalStore } from './blob/local-store.ts'
import { openMemoryStore } from './blob/memory-store.ts'
import { createClosing } from './closing.ts'
import { openRepository } from './repository.ts'
import { collected, newRepository, password, reopen, scratch, seeded, takeSnapshot, world } from './testing/testbed.ts'

const closed = { code: 'repository_closed' }

async function filled() {
  const path = await scratch()
  const source = await scratch()
  await writeFile(join(source, 'large'), seeded(1).bytes(3 << 20))
  const repository = await newRepository(path)
  await takeSnapshot(repository, source)
  const files = async (kind: string) => (await readdir(join(path, kind), { recursive: true })).length
  return { path, source, repository, files }
}

/** Threads of this process that work for a repository, by the name that they have in the system. */
async function workThreads(): Promise<number> {
  const names = await Promise.all(
    (await readdir('/proc/self/task')).map((id) => readFile(`/proc/self/task/${id}/comm`, 'utf8').catch(() => '')),
  )
  return names.filter((name) => name.trim() === 'repository work').length
}

describe('the threads of a repository', () => {
  test('have started when it is open, if that was asked for', async () => {
    const { path, repository } = await filled()
    await repository.close()
    const early = { threads: 2, threadsStart: 'now' } as const
    const opened = await openRepository({ store: openLocalStore(path), password, ...world, ...early })
    await expect.poll(workThreads, { timeout: 20_000 }).toBe(2)
    await opened.close()
    expect(await workThreads()).toBe(0)
  })

  test('end where the password is wrong', async () => {
    const { path, repository } = await filled()
    await repository.close()
    const early = { threads: 2, threadsStart: 'now' } as const
    const opening = openRepository({ store: openLocalStore(path), password: 'wrong', ...world, ...early })
    await expect(opening).rejects.toMatchObject({ code: 'password_wrong' })
    expect(await workThreads()).toBe(0)
  })
})

describe('the store of a closed repository', () => {
  test('ends a list that goes on, and asks for nothing more', async () => {
    let asked = 0
    const inner = openMemoryStore()
    const closing = createClosing()
    const store = closing.guard({
      ...inner,
      async *list() {
        for (;;) {
          asked += 1
          yield []
        }
      },
    })
    const listing = async () => {
      for await (const _ of store.list('pack')) if (asked === 3) await closing.close(async () => {})
    }
    await expect(listing()).rejects.toMatchObject(closed)
    expect(asked).toBe(3)
    await expect(listAll(store, 'pack')).rejects.toMatchObject(closed)
    expect(asked).toBe(3)
  })
})

describe('a closed repository', () => {
  test('refuses every call, and can be closed again', async () => {
    const { repository, source, path } = await filled()
    const [snapshot] = await repository.snapshots()
    const node = await repository.resolve(snapshot?.tree ?? expect.fail(), 'files/large')
    const content = node.type === 'file' ? node : expect.fail()
    await repository.close()
    await repository.close()
    await expect(repository.snapshots()).rejects.toMatchObject(closed)
    await expect(repository.startSave()).rejects.toMatchObject(closed)
    await expect(repository.check()).rejects.toMatchObject(closed)
    await expect(repository.upkeep.prune()).rejects.toMatchObject(closed)
    await expect(repository.unlock()).rejects.toMatchObject(closed)
    await expect(collected(repository.readFile(content))).rejects.toMatchObject(closed)
    await expect(repository.loadDirectory(snapshot?.tree ?? expect.fail(), source)).rejects.toMatchObject(closed)
    expect(await (await reopen(path)).snapshots()).toHaveLength(1)
  })

  test('has discarded its saves and given back its locks', async () => {
    const { repository, files } = await filled()
    const packs = await files('data')
    const save = await repository.startSave()
    const source = seeded(2)
    async function* endless() {
      for (;;) yield source.bytes(1 << 20)
    }
    const saving = save.saveStream(endless())
    const failed = expect(saving).rejects.toBeDefined()
    while ((await files('data')) === packs) await new Promise((resolve) => setTimeout(resolve, 20))
    expect(await files('locks')).toBe(1)
    await repository.close()
    await failed
    expect(await files('locks')).toBe(0)
    expect(await files('data')).toBe(packs)
    await expect(save.finish()).rejects.toBeDefined()
  })

  test('waits for what runs under a lock, and aborts it', async () => {
    const { repository, files } = await filled()
    const began = Promise.withResolvers<void>()
    let locksAtTheEnd = -1
    const running = repository.withLock('exclusive', async (signal) => {
      began.resolve()
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      await new Promise((resolve) => setTimeout(resolve, 50))
      locksAtTheEnd = await files('locks')
      signal.throwIfAborted()
    })
    const failed = expect(running).rejects.toMatchObject(closed)
    await began.promise
    await repository.close()
    await failed
    expect([locksAtTheEnd, await files('locks')]).toEqual([1, 0])
  })

  test('ends the waiting for a lock', async () => {
    const { repository, path } = await filled()
    const patient = await openRepository({ store: openLocalStore(path), password, ...world, lockWaitMs: 60_000 })
    await repository.withLock('exclusive', async () => {
      const waiting = patient.startSave()
      const failed = expect(waiting).rejects.toMatchObject(closed)
      await new Promise((resolve) => setTimeout(resolve, 50))
      await patient.close()
      await failed
    })
  })

  test('for reading only, it ends too', async () => {
    const { path } = await filled()
    const reader = await openRepository({ store: openLocalStore(path), password, ...world, readOnly: true })
    const running = reader.withLock(
      'shared',
      (signal) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    )
    const failed = expect(running).rejects.toMatchObject(closed)
    await new Promise((resolve) => setTimeout(resolve, 10))
    await reader.close()
    await failed
    await expect(reader.check()).rejects.toMatchObject(closed)
  })

  test('by "await using", with no thread left', async () => {
    const { path, source } = await filled()
    const at = (file: string) => JSON.stringify(fileURLToPath(new URL(file, import.meta.url)))
    const program = `
      import { getActiveResourcesInfo } from 'node:process'
      import { openLocalStore, openRepository } from ${at('./index.ts')}
      const workers = () => getActiveResourcesInfo().filter((name) => name === 'MessagePort' || name === 'Worker').length
      {
        await using repository = await openRepository({ store: openLocalStore(${JSON.stringify(path)}), password: ${JSON.stringify(password)}, threads: 2 })
        const save = await repository.startSave()
        await save.saveStream((async function* () { for (let n = 0; n < 24; n += 1) yield Buffer.alloc(1 << 20, n) })())
        await save.saveDirectory(${JSON.stringify(source)})
      }
      console.log(workers())`
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', program], {
      encoding: 'utf8',
    })
    expect([stdout, stderr]).toEqual(['0\n', ''])
    expect(await readdir(join(path, 'locks'))).toEqual([])
  })
})
