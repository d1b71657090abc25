import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, test } from 'vitest'
import { directoryDigest, inboxHooks, inboxStore, temporaryDirectory } from '../command/inbox-workbench.ts'
import { sourceConformance } from '../conformance.ts'
import { testClock } from '../sqlite/sqlite-workbench.ts'
import type { Workbench } from '../workbench.ts'
import { pinKind } from './clone.ts'
import { filesOptions, filesSource } from './index.ts'

const never = new AbortController().signal

async function workbench(options: Readonly<Record<string, string>>): Promise<Workbench> {
  const dir = await temporaryDirectory()
  const store = await inboxStore(dir)
  let count = 0
  const open = async (path: string) => {
    count += 1
    const scratchDir = join(dir, `scratch-${count}`)
    await mkdir(scratchDir, { mode: 0o700 })
    const env = { clock: testClock, baseDir: store.box, scratchDir, note: () => undefined }
    return filesSource.open(filesOptions.parse({ path, ...options }), env, never)
  }
  return {
    ...store,
    open: () => open('inbox'),
    async openEmptyTarget() {
      count += 1
      const target = join(dir, `target-${count}`)
      const session = await open(target)
      return { session, digest: () => directoryDigest(target), close: () => session.close() }
    },
    stop: () => rm(dir, { recursive: true, force: true }),
    outsideWrite: {
      program: 'sh',
      parameters: ['-c', `until touch ${store.box}/door/outside 2>/dev/null; do sleep 0.02; done`],
    },
  }
}

const times = { leaseMs: 600, patienceMs: 5000 }
const api = { describe, test, afterAll }
const { quiesce, resume } = inboxHooks
const hooks = { quiesceCommand: quiesce, resumeCommand: resume }

// On btrfs or XFS (set TMPDIR) the tree is cloned at the mark, elsewhere linked: the rules are checked either way.
const probe = await temporaryDirectory()
const pin = await pinKind(probe, probe)
await rm(probe, { recursive: true })

sourceConformance(api, `files (${pin})`, () => workbench({}), { hold: 'none', mark: 'scan', ...times })
sourceConformance(api, 'files in place', () => workbench({ clone: 'never' }), { hold: 'none', mark: 'scan', ...times })
sourceConformance(api, `files with hooks (${pin})`, () => workbench(hooks), {
  hold: 'writes',
  mark: pin === 'clone' ? 'exact' : 'scan',
  ...times,
})
