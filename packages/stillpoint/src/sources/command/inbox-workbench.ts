/**
 * A directory that takes files through a door, with writers of its own: the store for the tests of `command` and `files`.
 * Held, the door is gone, so no write can be acknowledged; reads go on. For tests only.
 */
import { createHash } from 'node:crypto'
import { link, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type AcknowledgedWrite, type Load, sleep } from '../workbench.ts'

export interface InboxStore {
  /** Holds `inbox`, the content, and `door`, a symlink to it that writers go through. */
  readonly box: string
  write(files: number): Promise<void>
  startLoad(): Promise<Load>
  digest(): Promise<string>
  wipe(): Promise<void>
  kill(): Promise<void>
  revive(): Promise<void>
}

let named = 0

/** Over names and contents. A file that is written elsewhere at the same time is seen as it is then. */
export async function directoryDigest(directory: string): Promise<string> {
  const hash = createHash('sha256')
  for (const file of (await readdir(directory)).toSorted()) {
    hash.update(JSON.stringify(file)).update(await readFile(join(directory, file)))
  }
  return hash.digest('hex')
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}

/** Written aside, then linked through the door: the link is the acknowledgement, and fails while the door is gone. */
async function writeOne(box: string): Promise<void> {
  named += 1
  const name = `file-${process.pid}-${named}`
  const aside = join(box, 'aside', name)
  await writeFile(aside, `${name} ${'x'.repeat(named % 500)}`)
  for (;;) {
    try {
      await link(aside, join(box, 'door', name))
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
  await symlink('inbox', join(box, 'door'))
}

/** What a user would write: the door is the way in, and readers do not need it. */
export const inboxHooks = {
  quiesce: 'rm -f door',
  resume: 'test -L door || ln -s inbox door',
} as const

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
    digest: () => directoryDigest(join(box, 'inbox')),
    async wipe() {
      for (const file of await readdir(join(box, 'inbox'))) await rm(join(box, 'inbox', file))
    },
    kill: () => rename(box, `${box}.gone`),
    async revive() {
      await rename(`${box}.gone`, box)
      // As a store does that starts again after a crash: nothing is held any more.
      await symlink('inbox', join(box, 'door')).catch((error: unknown) => {
        if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
      })
    },
  }
}

export function temporaryDirectory(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'stillpoint-inbox-'))
}
