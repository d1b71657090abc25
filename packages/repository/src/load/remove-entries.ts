/**
 * Owns removing entries from the target: what a snapshot does not have, where that was asked for.
 *
 * Invariants: 1. directories are reached through descriptors, links are removed and not followed: nothing outside the
 * target is removed. 2. Nothing on another file system is: what is mounted in the target was not restored there.
 */
import { fstatSync, rmdirSync, unlinkSync } from 'node:fs'
import { Failure, isFailure } from '@stillpoint/core/kernel'
import type { HeldDirectory } from '../anchored-directory.ts'
import { bytesFromName } from '../format/node-name.ts'
import { attempt } from './attempt.ts'
import { readTree } from './blob-reader.ts'
import type { Load } from './load.ts'
import { type PlannedDirectory, pathOfDirectory } from './load-plan.ts'
import { conflict, type NodePlace, statusAt } from './place-node.ts'

/** Removes from a directory what is not in its tree. */
export async function removeOthers(load: Load, number: number, planned: PlannedDirectory): Promise<void> {
  const { removes } = load
  if (removes === undefined || planned.made === undefined || planned.made.isFresh) return
  const prefix = pathOfDirectory(load.directories, number)
  const names = await namesOf(load, planned)
  if (names === undefined) return
  const hold = load.open.hold([number])
  try {
    const directory = hold.at(number)
    for (const name of directory.names()) {
      const path = `${prefix}${name}`
      if (names.has(bytesFromName(name).toString('latin1')) || !removes(path)) continue
      await attempt(load, path, () => removeEntry(load, { directory, name, path }))
    }
  } finally {
    hold.release()
  }
}

/** Undefined where the tree cannot be read: then nobody knows what is not in it. */
async function namesOf(load: Load, { tree }: PlannedDirectory): Promise<ReadonlySet<string> | undefined> {
  try {
    return new Set((await readTree(load.vault, tree)).map((node) => bytesFromName(node.name).toString('latin1')))
  } catch (error) {
    if (isFailure(error, 'object_damaged') || isFailure(error, 'object_missing')) return undefined
    throw error
  }
}

/** Removes an entry with all that is in it. @throws Failure `target_conflict` for what is mounted there */
export async function removeEntry(load: Load, place: NodePlace): Promise<void> {
  load.abort()
  if (load.turns.isDue) await load.turns.give()
  const status = statusAt(place)
  if (status === undefined) return
  if (status.isDirectory()) {
    const { dev } = fstatSync(place.directory.fd, { bigint: true })
    if (status.dev !== dev) throw mounted(place)
    const directory = place.directory.open(place.name)
    try {
      await removeContent(load, directory, place.path)
    } finally {
      directory.close()
    }
    if (!load.isDryRun) rmdirSync(place.directory.child(place.name))
  } else if (!load.isDryRun) unlinkSync(place.directory.child(place.name))
  load.removed(place.path)
}

/**
 * Removes what is in the way of an entry: a directory with content only where what the snapshot does not have is to go.
 * @throws Failure `target_conflict`
 */
export async function clearTheWay(load: Load, place: NodePlace): Promise<void> {
  const status = statusAt(place)
  if (status === undefined) return
  if (!status.isDirectory()) return unlinkSync(place.directory.child(place.name))
  if (load.removes?.(place.path) !== true) throw conflict(place)
  await removeEntry(load, place)
}

async function removeContent(load: Load, directory: HeldDirectory, path: string): Promise<void> {
  for (const name of directory.names()) await removeEntry(load, { directory, name, path: `${path}/${name}` })
}

function mounted({ path }: NodePlace): Failure {
  return new Failure({
    code: 'target_conflict',
    message: `${JSON.stringify(path)} is another file system that is mounted in the target; it is not removed`,
    hint: 'Unmount it, or exclude it.',
  })
}
