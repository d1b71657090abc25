/**
 * A directory that takes files by rename, with writers of its own: the store for the tests of `command` and of the hooks
 * of `files`. Held, its inbox has another name, so no write can be acknowledged; reads follow it. For tests only.
 */
import { createHash } from 'node:crypto'
import { link, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type AcknowledgedWrite, type Load, sleep } from '../workbench.ts'

export interface InboxStore {
  /** `box/inbox`, or `box/inbox.held` while it is held. */
  readonly box: string
  write(files: number): Promise<void>
  startLoad(): Promise<Load>
  digest(): Promise<string>
  wipe(): Promise<void>
  kill(): Promise<void>
  revive(): Promise<void>
}

let named = 0

async function readBox(box: string): Promise<string> {
  for (const name of ['inbox', 'inbox.held']) {
    const hash = createHash('sha256')
    try {
      for (const file of (await readdir(join(box, name))).toSorted()) {
        hash.update(JSON.stringify(file)).update(await readFile(join(box, name, file)))
      }
      return hash.digest('hex')
    } catch (error) {
      if (!isMissing(error)) throw error
    }
  }
  return readBoxAgain(box)
}

/** The inbox was renamed between the two looks, or is gone. */
async function readBoxAgain(box: string): Promise<string> {
  await stat(box)
  await sleep(2)
  return readBox(box)
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}

/** Written aside, then linked into the inbox: the link is the acknowledgement, and fails while the inbox is held. */
async function writeOne(box: string): Promise<void> {
  named += 1
  const name = `file-${process.pid}-${named}`
  const aside = join(box, 'aside', name)
  await writeFile(aside, `${name} ${'x'.repeat(named % 500)}`)
  for (;;) {
    try {
      await link(aside, join(box, 'inbox', name))
      await unlink(aside)
      return
    } catch (error) {
      if (!isMissing(error)) throw error
    }
    await stat(aside) // The whole store is gone: no use in waiting.
    await sleep(2)
  }
}

export async function makeBox(box: string): Promise<void> {
  await mkdir(join(box, 'inbox'), { recursive: true })
  await mkdir(join(box, 'aside'))
}

export function boxDigest(box: string): Promise<string> {
  return readBox(box)
}

export async function inboxStore(dir: string): Promise<InboxStore> {
  const box = join(dir, 'box')
  await makeBox(box)
  return {
    box,
    async write(files) {
      for (let i = 0; i < files; i += 1) await writeOne(box)
    },
    async startLoad() {
      const writes: AcknowledgedWrite[] = []
      let stopped = false
      const run = async () => {
        while (!stopped) {
          const startedMs = performance.now()
          await writeOne(box)
          writes.push({ startedMs, acknowledgedMs: performance.now() })
          await sleep(8)
        }
      }
      const writers = [run(), run()]
      return {
        acknowledged: () => writes,
        async stop() {
          stopped = true
          await Promise.all(writers)
          return { acknowledged: writes.length }
        },
      }
    },
    digest: () => readBox(box),
    async wipe() {
      for (const file of await readdir(join(box, 'inbox'))) await rm(join(box, 'inbox', file))
    },
    kill: () => rename(box, `${box}.gone`),
    async revive() {
      await rename(`${box}.gone`, box)
      // As a store does that starts again after a crash: nothing is held any more.
      await rename(join(box, 'inbox.held'), join(box, 'inbox')).catch((error: unknown) => {
        if (!isMissing(error)) throw error
      })
    },
  }
}

export function temporaryDirectory(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'stillpoint-inbox-'))
}
