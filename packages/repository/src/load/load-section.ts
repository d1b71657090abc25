/**
 * Owns restoring one section of a plan: directories, files, other entries, and the metadata of the directories that are
 * complete with it.
 */
import { type BigIntStats, fstatSync } from 'node:fs'
import { assert } from '@stillpoint/core/kernel'
import type { HeldDirectory } from '../anchored-directory.ts'
import { errnoOf } from '../blob/storage-failure.ts'
import { directoryItself, givesAcl, writeAttributes } from '../extended-attributes.ts'
import { attempt, failedAttributes } from './attempt.ts'
import { type Decisions, decideFiles, outcomeOf } from './decide-files.ts'
import { isKept } from './examine-files.ts'
import { finishFile } from './finish-file.ts'
import { type LinkedFile, linkFile } from './link-file.ts'
import type { Load } from './load.ts'
import {
  type MadeDirectory,
  type OtherNode,
  type PlannedDirectory,
  pathOfDirectory,
  rootDirectory,
  type Section,
} from './load-plan.ts'
import { isAloneIn, placeAttributes } from './place-attributes.ts'
import {
  applyLinkMetadata,
  applyMetadata,
  linkTargetAt,
  makeDirectory,
  makeSpecial,
  makeSymlink,
  type NodePlace,
  statusAt,
} from './place-node.ts'
import { placeSection } from './place-section.ts'
import { clearTheWay, removeOthers } from './remove-entries.ts'
import { restoreAlone } from './restore-alone.ts'
import { sweepRemains } from './sweep-remains.ts'

export async function loadSection(load: Load, section: Section): Promise<void> {
  for (const directory of section.directories) await makePlanned(load, directory)
  const decisions = await decideFiles(load, section)
  if (load.isDryRun) return countWanted(load, section, decisions)
  await placeSection(load, section, decisions)
  for (const { directory, node } of section.others) await placeOther(load, directory, node)
  await tidyFiles(load, section)
  for (const link of section.links) await placeLink(load, section, link)
}

/** Directories of which nothing is to come get their metadata, each before the one that it is in. */
export async function finishDirectories(load: Load, section: Section): Promise<void> {
  const linked = new Set<number>()
  for (const { directory } of load.linked.values()) {
    for (let at = directory; !linked.has(at); at = load.directories.get(at)?.parent ?? rootDirectory) linked.add(at)
  }
  for (const number of section.completed) {
    const planned = load.directories.get(number)
    if (planned === undefined || planned.isFinished) continue
    await removeOthers(load, number, planned)
    await finishDirectory(load, number, planned)
    planned.isFinished = true
    if (planned.node !== undefined && planned.made !== undefined) {
      const path = () => pathOfDirectory(load.directories, number).slice(0, -1)
      load.counted({ kind: 'dir', outcome: 'restored', path, bytes: 0 })
    }
    if (number !== rootDirectory && !linked.has(number)) load.directories.delete(number)
  }
}

/** What would be written. */
async function countWanted(load: Load, section: Section, decisions: Decisions): Promise<void> {
  const { files } = section
  for (let file = 0; file < files.size; file += 1) {
    const state = files.state(file)
    if (state !== 'whole' && state !== 'pieces') continue
    const path = () => `${pathOfDirectory(load.directories, files.directory(file))}${files.name(file)}`
    load.counted({ kind: 'file', outcome: outcomeOf(decisions, file), path, bytes: files.bytes(file) })
  }
  for (const { directory, node } of section.others) await placeOther(load, directory, node)
  for (const link of section.links) await placeLink(load, section, link)
}

/** A directory that a dry run would make. */
export const unmade: MadeDirectory = {
  inode: 0n,
  device: 0n,
  isFresh: true,
  isPlain: false,
  isAlone: true,
  givesAcl: false,
  mtimeBefore: undefined,
}

async function makePlanned(load: Load, number: number): Promise<void> {
  const planned = load.directories.get(number)
  assert(planned !== undefined, 'a section knows its directories')
  const parentMade = load.directories.get(planned.parent)?.made
  if (parentMade === undefined) return // it has been told of
  if (load.isDryRun && parentMade.isFresh) {
    planned.made = unmade
    return
  }
  const path = pathOfDirectory(load.directories, number).slice(0, -1)
  await attempt(load, path, async () => {
    const opened = load.open.within(planned.parent, (parent) => {
      const place = { directory: parent, name: planned.name, path }
      if (load.isDryRun && statusAt(place)?.isDirectory() !== true) {
        planned.made = unmade
        return undefined
      }
      const { directory, isFresh } = makeDirectory(place, { mayExist: load.overwrite !== 'refuse' })
      try {
        // Of its own it has none yet: what it got from its parent must not go on to what is made in it.
        if (isFresh && parentMade.givesAcl)
          failedAttributes(load, path, writeAttributes(directoryItself(directory.child), [], load.selectsAttribute))
        planned.made = madeAs(directory, isFresh)
        return directory
      } catch (error) {
        directory.close()
        throw error
      }
    })
    if (opened === undefined) return
    load.open.adopt(number, opened)
    if (planned.made?.isFresh === false) await sweepRemains(load, number)
  })
}

function madeAs(directory: HeldDirectory, isFresh: boolean): MadeDirectory {
  const status = fstatSync(directory.fd, { bigint: true })
  return {
    inode: status.ino,
    device: status.dev,
    isFresh,
    isPlain: isFresh && isAsAsked(status),
    isAlone: isFresh || isAloneIn(directory),
    givesAcl: !isFresh && givesAcl(directory.child),
    mtimeBefore: isFresh ? undefined : status.mtimeNs,
  }
}

/** Of a directory that was just made: no file system, mount or parent has given it another mode or owner. */
function isAsAsked({ mode, uid, gid }: BigIntStats): boolean {
  return (Number(mode) & 0o7777) === 0o700 && Number(uid) === process.geteuid?.() && Number(gid) === process.getegid?.()
}

async function finishDirectory(load: Load, number: number, { node, made }: PlannedDirectory): Promise<void> {
  if (node === undefined || made === undefined || load.isDryRun) return
  const { overwrite } = load
  const isOld = made.mtimeBefore !== undefined && overwrite !== 'refuse'
  if (isOld && isKept(overwrite, { found: made.mtimeBefore ?? 0n, wanted: node.mtime })) return
  const path = pathOfDirectory(load.directories, number).slice(0, -1)
  await attempt(load, path, () =>
    load.open.within(number, ({ fd, child }) => {
      // One that was just made has none, unless its parent gives them, and then they were taken away.
      const hasNone = made.isFresh && node.extendedAttributes.length === 0
      const between = () => {
        if (hasNone) return
        const problems = writeAttributes(directoryItself(child), node.extendedAttributes, load.selectsAttribute)
        failedAttributes(load, path, problems)
      }
      applyMetadata(fd, node, { owners: load.owners.canChange, between })
    }),
  )
}

async function placeOther(load: Load, directory: number, node: OtherNode): Promise<void> {
  const planned = load.directories.get(directory)
  if (planned?.made === undefined) return
  const { made } = planned
  const path = `${pathOfDirectory(load.directories, directory)}${node.name}`
  if (node.type === 'socket') return load.skip(path, 'a socket exists only while its server runs')
  if (node.type === 'irregular') return load.skip(path, 'a kind of file that this program does not know')
  const isDevice = node.type === 'dev' || node.type === 'chardev'
  if (isDevice && !load.owners.canChange) return load.skip(path, 'only root may make devices')
  const told = { kind: 'other', path: () => path, bytes: 0 } as const
  if (load.isDryRun && made.isFresh) return load.counted({ ...told, outcome: 'restored' })
  let outcome: 'restored' | 'unchanged' | 'kept' = 'restored'
  const isDone = await attempt(load, path, async () => {
    const hold = load.open.hold([directory])
    try {
      const place = { directory: hold.at(directory), name: node.name, path }
      if (!made.isFresh && load.overwrite !== 'refuse') {
        const there = statusAt(place)
        if (there !== undefined && isKept(load.overwrite, { found: there.mtimeNs, wanted: node.mtime })) {
          outcome = 'kept'
          return
        }
        if (isSameLink(place, node)) {
          outcome = 'unchanged'
          if (!load.isDryRun) giveMetadata(load, place, { node, made })
          return
        }
        if (load.isDryRun) return
        await clearTheWay(load, place)
      }
      if (node.type === 'symlink') makeSymlink(place, node)
      else if (node.type === 'fifo' || node.type === 'dev' || node.type === 'chardev') await makeSpecial(place, node)
      giveMetadata(load, place, { node, made })
    } finally {
      hold.release()
    }
  })
  if (isDone) load.counted({ ...told, outcome })
}

function isSameLink(place: NodePlace, node: OtherNode): boolean {
  return node.type === 'symlink' && linkTargetAt(place) === node.target
}

function giveMetadata(
  load: Load,
  place: NodePlace,
  { node, made }: { readonly node: OtherNode; readonly made: MadeDirectory },
): void {
  const attributes = node.extendedAttributes
  const status = attributes.length > 0 || made.givesAcl ? statusAt(place) : undefined
  if (status !== undefined) {
    const entry = { place, inode: status.ino, device: status.dev, attributes }
    failedAttributes(
      load,
      place.path,
      placeAttributes(entry, { isAlone: made.isAlone, selects: load.selectsAttribute }),
    )
  }
  applyLinkMetadata(place, node, load.owners.canChange)
}

/** Files whose content was there, and whose metadata differs. */
async function tidyFiles(load: Load, section: Section): Promise<void> {
  const { files } = section
  for (let file = 0; file < files.size; file += 1) {
    if (files.state(file) !== 'tidied') continue
    const directory = files.directory(file)
    const path = `${pathOfDirectory(load.directories, directory)}${files.name(file)}`
    await attempt(load, path, () =>
      load.open.within(directory, (opened) =>
        finishFile(load, section, { file, directory: opened, path, begun: undefined }),
      ),
    )
  }
}

/** Another name of a file; a file of its own where that cannot be. */
async function placeLink(
  load: Load,
  section: Section,
  { file, key }: { readonly file: number; readonly key: string },
): Promise<void> {
  const { files } = section
  if (files.state(file) !== 'link') return
  const directory = files.directory(file)
  const made = load.directories.get(directory)?.made
  const path = `${pathOfDirectory(load.directories, directory)}${files.name(file)}`
  const first = load.linked.get(key)
  const told = { kind: 'link', path: () => path, bytes: files.bytes(file) } as const
  if (load.isDryRun && made?.isFresh === true) return load.counted({ ...told, outcome: 'restored' })
  let outcome: 'restored' | 'unchanged' | 'kept' = 'restored'
  const isDone = await attempt(load, path, async () => {
    const hold = load.open.hold(first === undefined ? [directory] : [directory, first.directory])
    try {
      const place = { directory: hold.at(directory), name: files.name(file), path }
      const there = made?.isFresh === true ? undefined : statusAt(place)
      if (there !== undefined && load.overwrite !== 'refuse') {
        if (isKept(load.overwrite, { found: there.mtimeNs, wanted: files.mtime(file) })) {
          outcome = 'kept'
          return
        }
        if (first !== undefined && Number(there.ino) === first.inode && Number(there.dev) === first.device) {
          outcome = 'unchanged'
          return
        }
        if (!load.isDryRun) await clearTheWay(load, place)
      }
      if (load.isDryRun) return
      if (first !== undefined && canLink(place, first, hold.at(first.directory))) return
      await restoreAlone(load, section, { file, place })
    } finally {
      hold.release()
    }
  })
  if (!isDone) return files.setState(file, 'left')
  if (outcome === 'restored' && !load.isDryRun) load.progressed(told.path, told.bytes)
  load.counted({ ...told, outcome })
}

/** Other file systems, too many names and foreign directories are no reason not to have the file. */
function canLink(place: NodePlace, first: LinkedFile, directory: HeldDirectory): boolean {
  try {
    return linkFile(place, first, directory)
  } catch (error) {
    if (['EXDEV', 'EMLINK', 'EPERM', 'EACCES', 'ENOENT', 'ENOTSUP'].includes(errnoOf(error) ?? '')) return false
    throw error
  }
}
