/**
 * Owns removing what a restore that was killed has left in a directory under its temporary names. Files have none: they
 * are made under their own.
 *
 * Invariants: 1. nothing of a process that still runs is removed. 2. Nothing is lost: what lies in such a place has its
 * content from the snapshot by then, since attributes are given last.
 */
import { isProcessAlive } from '../process-alive.ts'
import type { Load } from './load.ts'
import { attributesPrefix } from './place-attributes.ts'
import { specialPrefix } from './place-node.ts'
import { removeEntry } from './remove-entries.ts'

export async function sweepRemains(load: Load, number: number): Promise<void> {
  if (load.isDryRun) return
  const untold = { ...load, removed: () => undefined }
  const hold = load.open.hold([number])
  try {
    const directory = hold.at(number)
    for (const name of directory.names()) {
      const pid = ownerOf(name)
      if (pid !== undefined && !isProcessAlive(pid)) await removeEntry(untold, { directory, name, path: name })
    }
  } finally {
    hold.release()
  }
}

/** The process whose temporary name it is. */
function ownerOf(name: string): number | undefined {
  const prefix = [specialPrefix, attributesPrefix].find((each) => name.startsWith(each))
  const [, pid] = /^(\d{1,10})(?:-\d+)?$/.exec(name.slice(prefix?.length)) ?? []
  return prefix === undefined || pid === undefined || Number(pid) === 0 ? undefined : Number(pid)
}
