/**
 * The `command` source over a directory with a door (inbox-workbench.ts): the commands are what a user would write, and
 * run in the directory of the store. For tests only.
 */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { testClock } from '../sqlite/sqlite-workbench.ts'
import type { Workbench } from '../workbench.ts'
import { directoryDigest, inboxHooks, inboxStore, makeBox, temporaryDirectory } from './inbox-workbench.ts'
import { commandOptions, commandSource } from './index.ts'

const never = new AbortController().signal

const archive = (from: string) => `tar --sort=name --mtime=@0 -C ${from} -c .`
const common = {
  restore: 'if [ "$STILLPOINT_REPLACE" = 1 ]; then rm -rf inbox && mkdir inbox; fi; tar -C inbox -x',
  empty: 'test -z "$(ls -A inbox)"',
  verify: `cat >aside/expected; ${archive('inbox')} | cmp -s - aside/expected; code=$?; rm aside/expected; exit $code`,
  estimate: 'du -sb . | cut -f1',
}
export const pinned = {
  ...common,
  ...inboxHooks,
  mark: 'mkdir -p "aside/$STILLPOINT_CUT" && cp -al inbox/. "aside/$STILLPOINT_CUT" && ls -i "aside/$STILLPOINT_CUT" | cksum',
  capture: archive('"aside/$STILLPOINT_CUT"'),
  release: 'rm -rf "aside/$STILLPOINT_CUT"',
}
/** Without a mark of its own: captured in the hold. */
export const spooled = { ...common, ...inboxHooks, capture: archive('inbox') }

export async function commandWorkbench(options: Readonly<Record<string, string>>): Promise<Workbench> {
  const dir = await temporaryDirectory()
  const store = await inboxStore(dir)
  let count = 0
  const open = async (baseDir: string) => {
    count += 1
    const scratchDir = join(dir, `scratch-${count}`)
    await mkdir(scratchDir, { mode: 0o700 })
    return commandSource.open(
      commandOptions.parse(options),
      { clock: testClock, baseDir, scratchDir, note: () => undefined },
      never,
    )
  }
  return {
    ...store,
    open: () => open(store.box),
    async openEmptyTarget() {
      count += 1
      const target = join(dir, `target-${count}`)
      await makeBox(target)
      const session = await open(target)
      return { session, digest: () => directoryDigest(join(target, 'inbox')), close: () => session.close() }
    },
    stop: () => rm(dir, { recursive: true, force: true }),
    outsideWrite: {
      program: 'sh',
      parameters: ['-c', `until touch ${store.box}/door/outside 2>/dev/null; do sleep 0.02; done`],
    },
  }
}
