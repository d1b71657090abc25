/**
 * Owns restoring one section of a plan: directories, files, other entries, and the metadata of the directories that are
 * complete with it.
 */
import { assert } from '@stillpoint/core/kernel'
import type { AnchoredDirectory } from '../anchored-directory.ts'
import { errnoOf } from '../blob/storage-failure.ts'
import { directoryItself, givesAcl, writeAttributes } from '../extended-attributes.ts'
import { eachOf } from '../parallel.ts'
import { attempt, failedAttributes } from './attempt.ts'
import { decideFiles } from './decide-files.ts'
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

const entriesInFlight = 4

export async function loadSection(load: Load, section: Section): Promise<void> {
  for (const directory of section.directories) await makePlanned(load, directory)
  const decisions = await decideFiles(load, section)
  if (load.isDryRun) return countWanted(load, section)
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
    if (number !== rootDirectory && !linked.has(number)) load.directories.delete(number)
  }
}

/** What would be written. */
function countWanted(load: Load, { files }: Section): void {
  for (let file = 0; file < files.size; file += 1) {
    const state = files.state(file)
    if (state !== 'whole' && state !== 'pieces' && state !== 'link') continue
    const path = () => `${pathOfDirectory(load.directories, files.directory(file))}${files.name(file)}`
    load.counted('restored', { path, bytes: files.bytes(file) })
  }
}

async function within(load: Load, directory: number, action: (opened: AnchoredDirectory) => Promise<void>) {
  await load.open.use([directory], async (opened) => {
    const one = opened.get(directory)
    assert(one !== undefined, 'it was opened')
    await action(one)
  })
}

/** A directory that a dry run would make. */
export const unmade: MadeDirectory = {
  inode: 0n,
  device: 0n,
  isFresh: true,
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
  await attempt(load, path, () =>
    within(load, planned.parent, async (parent) => {
      const place = { directory: parent, name: planned.name, path }
      if (load.isDryRun && (await statusAt(place))?.isDirectory() !== true) {
        planned.made = unmade
        return
      }
      const { directory, isFresh } = await makeDirectory(place, { mayExist: load.overwrite !== 'refuse' })
      const { ino, dev, mtimeNs } = await directory.handle.stat({ bigint: true })
      const isAlone = isFresh || (await isAloneIn(directory))
      // Of its own it has none yet: what it got from its parent must not go on to what is made in it.
      if (isFresh && parentMade.givesAcl)
        failedAttributes(load, path, writeAttributes(directoryItself(directory.child), []))
      planned.made = {
        inode: ino,
        device: dev,
        isFresh,
        isAlone,
        givesAcl: !isFresh && givesAcl(directory.child),
        mtimeBefore: isFresh ? undefined : mtimeNs,
      }
      load.open.adopt(number, directory)
    }),
  )
}

async function finishDirectory(load: Load, number: number, { node, made }: PlannedDirectory): Promise<void> {
  if (node === undefined || made === undefined || load.isDryRun) return
  const { overwrite } = load
  const isOld = made.mtimeBefore !== undefined && overwrite !== 'refuse'
  if (isOld && isKept(overwrite, { found: made.mtimeBefore ?? 0n, wanted: node.mtime })) return
  const path = pathOfDirectory(load.directories, number).slice(0, -1)
  await attempt(load, path, () =>
    within(load, number, async ({ handle, child }) => {
      const between = async () => {
        failedAttributes(load, path, writeAttributes(directoryItself(child), node.extendedAttributes))
      }
      await applyMetadata(handle, node, { owners: load.owners, between })
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
  if (isDevice && !load.owners) return load.skip(path, 'only root may make devices')
  await attempt(load, path, () =>
    within(load, directory, async (opened) => {
      const place = { directory: opened, name: node.name, path }
      if (!made.isFresh && load.overwrite !== 'refuse') {
        const there = await statusAt(place)
        if (there !== undefined && isKept(load.overwrite, { found: there.mtimeNs, wanted: node.mtime })) return
        if (await isSameLink(place, node)) return giveMetadata(load, place, { node, made })
        await clearTheWay(load, place)
      }
      if (node.type === 'symlink') await makeSymlink(place, node)
      else if (node.type === 'fifo' || node.type === 'dev' || node.type === 'chardev') await makeSpecial(place, node)
      await giveMetadata(load, place, { node, made })
    }),
  )
}

async function isSameLink(place: NodePlace, node: OtherNode): Promise<boolean> {
  return node.type === 'symlink' && (await linkTargetAt(place)) === node.target
}

async function giveMetadata(
  load: Load,
  place: NodePlace,
  { node, made }: { readonly node: OtherNode; readonly made: MadeDirectory },
): Promise<void> {
  const status = await statusAt(place)
  const attributes = node.extendedAttributes
  if (status !== undefined && (attributes.length > 0 || made.givesAcl)) {
    const entry = { place, inode: status.ino, device: status.dev, attributes }
    failedAttributes(load, place.path, await placeAttributes(entry, made.isAlone))
  }
  await applyLinkMetadata(place, node, load.owners)
}

/** Files whose content was there, and whose metadata differs. */
async function tidyFiles(load: Load, section: Section): Promise<void> {
  const { files } = section
  await eachOf(filesInState(section, 'tidied'), entriesInFlight, async (file) => {
    const directory = files.directory(file)
    const path = `${pathOfDirectory(load.directories, directory)}${files.name(file)}`
    await attempt(load, path, () =>
      within(load, directory, (opened) =>
        finishFile(load, section, { file, directory: opened, path, begun: undefined }),
      ),
    )
  })
}

function* filesInState({ files }: Section, state: 'tidied'): Generator<number> {
  for (let file = 0; file < files.size; file += 1) if (files.state(file) === state) yield file
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
  const bytes = files.bytes(file)
  let outcome: 'restored' | 'unchanged' | 'kept' = 'restored'
  const isDone = await attempt(load, path, async () => {
    const both = first === undefined ? [directory] : [directory, first.directory]
    await load.open.use(both, async (opened) => {
      const one = opened.get(directory)
      assert(one !== undefined, 'it was opened')
      const place = { directory: one, name: files.name(file), path }
      const there = made?.isFresh === true ? undefined : await statusAt(place)
      if (there !== undefined && load.overwrite !== 'refuse') {
        if (isKept(load.overwrite, { found: there.mtimeNs, wanted: files.mtime(file) })) {
          outcome = 'kept'
          return
        }
        if (first !== undefined && Number(there.ino) === first.inode && Number(there.dev) === first.device) {
          outcome = 'unchanged'
          return
        }
        await clearTheWay(load, place)
      }
      const target = first === undefined ? undefined : opened.get(first.directory)
      if (first !== undefined && target !== undefined && (await canLink(place, first, target))) return
      await restoreAlone(load, section, { file, place })
    })
  })
  if (!isDone) return files.setState(file, 'left')
  load.progressed(() => path, bytes)
  load.counted(outcome, { path: () => path, bytes })
}

/** Other file systems, too many names and foreign directories are no reason not to have the file. */
async function canLink(place: NodePlace, first: LinkedFile, directory: AnchoredDirectory): Promise<boolean> {
  try {
    return await linkFile(place, first, directory)
  } catch (error) {
    if (['EXDEV', 'EMLINK', 'EPERM', 'EACCES', 'ENOENT', 'ENOTSUP'].includes(errnoOf(error) ?? '')) return false
    throw error
  }
}
