/**
 * Owns bringing the blobs of a section into its files: pack by pack, each blob read once, in few ranges, several ranges at
 * a time, opened and written by the threads of the pool. Memory is bounded by the slabs that ranges are read into.
 *
 * Invariants: 1. a file is made, or found again, before its first blob is written, and finished after its last. 2. A blob
 * that is damaged in one place is looked for in others; without any, each file that it belongs to is a problem.
 */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { assert, isFailure } from '@stillpoint/core/kernel'
import type { AnchoredDirectory } from '../anchored-directory.ts'
import { errnoOf } from '../blob/storage-failure.ts'
import { giveBack } from '../format/crypto.ts'
import type { PackId } from '../format/ids.ts'
import { eachOf } from '../parallel.ts'
import { createSlabs, type Slab } from '../work/slabs.ts'
import { failed } from './attempt.ts'
import { readBlob } from './blob-reader.ts'
import type { Decisions } from './decide-files.ts'
import { finishFile } from './finish-file.ts'
import type { Load } from './load.ts'
import { pathOfDirectory, type Section } from './load-plan.ts'
import {
  blobFields,
  destinationFields,
  type PlaceBlobsInput,
  type PlaceProblem,
  writeBlobRow,
  writeDestination,
} from './place-blobs.ts'
import { conflict, secondsNumber } from './place-node.ts'
import { clearTheWay } from './remove-entries.ts'

/** Of one request. Blobs that are not needed are read where that costs less than another request. */
const rangeBytesMax = 4 << 20
const gapBytesMax = 256 << 10
const rangesInFlight = 4
const slabBytes = rangeBytesMax + (1 << 20)
/** Directories and files of one task. */
const directoriesPerTask = 64
const destinationsPerTask = 4096

/** A file that is written in pieces, open for any thread to find. */
export interface BegunFile {
  readonly inode: number
  readonly device: number
  readonly isSparse: boolean
}

interface Placing {
  readonly load: Load
  readonly section: Section
  readonly decisions: Decisions
  readonly begun: Map<number, Promise<BegunFile>>
  /** Files with a problem, which are not finished. */
  readonly broken: Set<number>
}

interface Range {
  readonly pack: PackId
  readonly offset: number
  readonly length: number
  readonly blobs: Uint32Array
}

/** One blob on its way to one file. */
interface Target {
  readonly blob: number
  readonly file: number
  readonly position: number
}

export async function placeSection(load: Load, section: Section, decisions: Decisions): Promise<void> {
  const placing: Placing = { load, section, decisions, begun: new Map(), broken: new Set() }
  const slabs = createSlabs({ slabBytes, slabsMax: rangesInFlight })
  await placeEmptyFiles(placing)
  await eachOf(rangesOf(section), rangesInFlight, async (range) => {
    load.abort()
    const slab = await slabs.take(load.signal)
    try {
      await placeRange(placing, range, slab)
    } finally {
      slab.release()
    }
  })
}

function* rangesOf({ blobs }: Section): Generator<Range> {
  for (const { pack, blobs: numbers } of blobs.byPack()) {
    let first = 0
    let offset = 0
    let end = 0
    for (const [at, blob] of numbers.entries()) {
      const place = blobs.place(blob)
      const fits = place.offset + place.length - offset <= rangeBytesMax && place.offset - end <= gapBytesMax
      if (at > first && !fits) {
        yield { pack, offset, length: end - offset, blobs: numbers.subarray(first, at) }
        first = at
      }
      if (at === first) offset = place.offset
      end = at === first ? place.offset + place.length : Math.max(end, place.offset + place.length)
    }
    if (first < numbers.length) yield { pack, offset, length: end - offset, blobs: numbers.subarray(first) }
  }
}

async function placeRange(placing: Placing, range: Range, slab: Slab): Promise<void> {
  const { load, section } = placing
  let bytes: Buffer
  try {
    bytes = await load.vault.store.get({ kind: 'pack', name: range.pack }, range)
  } catch (error) {
    if (!isFailure(error, 'object_missing') && !isFailure(error, 'object_damaged')) throw error
    // Other places of each blob, or a prune has moved them.
    for (const blob of range.blobs) await placeFromElsewhere(placing, blob)
    return
  }
  if (bytes.length <= slab.bytes.length) {
    slab.bytes.set(bytes)
    const { length } = bytes
    giveBack(bytes)
    bytes = slab.bytes.subarray(0, length)
  }
  const damaged = new Set<number>()
  for (const targets of targetsOf(section, range.blobs)) {
    const found = await placeTargets(placing, { targets, sealed: bytes, offset: range.offset, isOpen: false })
    for (const blob of found) damaged.add(blob)
  }
  for (const blob of damaged) await placeFromElsewhere(placing, blob)
}

/** Everything that the blobs are needed for, in pieces for one task each. */
function* targetsOf({ blobs, files }: Section, numbers: Iterable<number>): Generator<readonly Target[]> {
  let targets: Target[] = []
  let directories = new Set<number>()
  for (const blob of numbers) {
    const ofBlob: Target[] = []
    blobs.eachReference(blob, (file, position) => ofBlob.push({ blob, file, position }))
    for (const target of ofBlob) {
      targets.push(target)
      directories.add(files.directory(target.file))
      if (directories.size < directoriesPerTask && targets.length < destinationsPerTask) continue
      yield targets
      targets = []
      directories = new Set()
    }
  }
  if (targets.length > 0) yield targets
}

async function placeEmptyFiles(placing: Placing): Promise<void> {
  const { files } = placing.section
  let targets: Target[] = []
  const place = async () => {
    await placeTargets(placing, { targets, sealed: new Uint8Array(), offset: 0, isOpen: true })
    targets = []
  }
  for (let file = 0; file < files.size; file += 1) {
    if (files.content(file).length > 0 || files.left(file) > 0) continue
    const state = files.state(file)
    if (state === 'pieces') await placeNothing(placing, file)
    if (state === 'whole') targets.push({ blob: noBlob, file, position: 0 })
    if (targets.length >= directoriesPerTask) await place()
  }
  // Files that are only cut: all of their blobs are there.
  for (const [file, start] of placing.decisions.starts) {
    if (start.kind === 'update' && files.left(file) === 0 && files.content(file).length > 0) {
      await placeNothing(placing, file)
    }
  }
  await place()
}

const noBlob = -1

/** A file that no blob is to be written to. */
async function placeNothing(placing: Placing, file: number): Promise<void> {
  await placing.load.open.use([placing.section.files.directory(file)], async (opened) => {
    await begin(placing, file, opened)
    await conclude(placing, { file, opened, bytes: 0 })
  })
}

interface PlacedTogether {
  readonly targets: readonly Target[]
  readonly sealed: Uint8Array
  /** Of `sealed` in the pack. */
  readonly offset: number
  readonly isOpen: boolean
}

/** Returns the blobs that are damaged. */
async function placeTargets(placing: Placing, together: PlacedTogether): Promise<ReadonlySet<number>> {
  const { load, section } = placing
  const damaged = new Set<number>()
  const { targets } = together
  if (targets.length === 0) return damaged
  const directories = [...new Set(targets.map(({ file }) => section.files.directory(file)))]
  await load.open.use(directories, async (opened) => {
    const ready: Target[] = []
    const begun = new Map<number, BegunFile>()
    for (const target of targets) {
      if (placing.broken.has(target.file)) continue
      if (section.files.state(target.file) === 'pieces') {
        const file = begun.get(target.file) ?? (await begin(placing, target.file, opened))
        if (file === undefined) continue
        begun.set(target.file, file)
      }
      ready.push(target)
    }
    if (ready.length === 0) return
    const input = inputOf(placing, { ...together, targets: ready, begun, opened, directories })
    const options = { bytes: input.sealed.length, signal: load.signal }
    const problems = await load.vault.work.run('placeBlobs', input, options)
    const isDone = settle(placing, { ready, problems, damaged })
    for (const target of ready) {
      if (!isDone(target)) continue
      const bytes = target.blob === noBlob ? 0 : section.blobs.plainBytes(target.blob)
      await conclude(placing, { file: target.file, opened, bytes })
    }
  })
  return damaged
}

/** Makes or finds the file. Undefined where that fails, which is a problem. */
async function begin(
  placing: Placing,
  file: number,
  opened: ReadonlyMap<number, AnchoredDirectory>,
): Promise<BegunFile | undefined> {
  const known = placing.begun.get(file)
  const begun = known ?? beginFile(placing, file, opened)
  if (known === undefined) placing.begun.set(file, begun)
  try {
    return await begun
  } catch (error) {
    if (!(isFailure(error) || errnoOf(error) !== undefined)) throw error
    breakFile(placing, file, error)
    return undefined
  }
}

const createFlags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
const updateFlags = constants.O_WRONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

async function beginFile(
  { load, section, decisions }: Placing,
  file: number,
  opened: ReadonlyMap<number, AnchoredDirectory>,
): Promise<BegunFile> {
  const { files } = section
  const directory = opened.get(files.directory(file))
  assert(directory !== undefined, 'the directory is open')
  const place = { directory, name: files.name(file), path: pathOf(load, section, file) }
  const start = decisions.starts.get(file)
  if (start?.kind === 'update') {
    const found = await findFile(place, start)
    if (found !== undefined) {
      try {
        if (start.isEmptied) await found.truncate(0)
        await found.truncate(files.bytes(file))
      } finally {
        await found.close()
      }
      return { inode: start.inode, device: start.device, isSparse: start.isEmptied }
    }
    throw conflict(place)
  }
  if (start?.clears === true) await clearTheWay(load, place)
  const handle = await open(directory.child(place.name), createFlags, 0o600).catch((error: unknown) => {
    throw errnoOf(error) === 'EEXIST' ? conflict(place, error) : error
  })
  try {
    await handle.truncate(files.bytes(file))
    const { ino, dev } = await handle.stat()
    return { inode: ino, device: dev, isSparse: true }
  } finally {
    await handle.close()
  }
}

async function findFile(
  place: { readonly directory: AnchoredDirectory; readonly name: string },
  { inode, device }: { readonly inode: number; readonly device: number },
) {
  const handle = await open(place.directory.child(place.name), updateFlags)
  const { ino, dev } = await handle.stat()
  if (ino === inode && dev === device) return handle
  await handle.close()
  return undefined
}

const pathOf = (load: Load, { files }: Section, file: number) =>
  `${pathOfDirectory(load.directories, files.directory(file))}${files.name(file)}`

interface Prepared extends PlacedTogether {
  readonly begun: ReadonlyMap<number, BegunFile>
  readonly opened: ReadonlyMap<number, AnchoredDirectory>
  readonly directories: readonly number[]
}

function inputOf({ load, section }: Placing, prepared: Prepared): PlaceBlobsInput {
  const { targets, begun, opened, directories } = prepared
  const { files, blobs } = section
  const places = new Map(directories.map((directory, at) => [directory, at]))
  const destinations = new Float64Array(targets.length * destinationFields)
  const names = targets.map(({ file }) => files.nameBytes(file))
  const distinct = targets.filter(({ blob }, at) => targets[at + 1]?.blob !== blob)
  const ids = new Uint8Array(distinct.length * 32)
  const blobRows = new Float64Array(distinct.length * blobFields)
  let nameEnd = 0
  let blobRow = 0
  for (const [row, { blob, file, position }] of targets.entries()) {
    nameEnd += names[row]?.length ?? 0
    const piece = begun.get(file)
    const mtime = secondsNumber(files.mtime(file))
    writeDestination(destinations, row, {
      directory: places.get(files.directory(file)) ?? 0,
      nameEnd,
      position,
      inode: piece?.inode ?? 0,
      device: piece?.device ?? 0,
      isSparse: piece?.isSparse ?? true,
      permissions: files.permissions(file),
      uid: load.owners ? files.uid(file) : -1,
      gid: load.owners ? files.gid(file) : -1,
      atime: files.atime(file) === files.mtime(file) ? mtime : secondsNumber(files.atime(file)),
      mtime,
      bytes: files.bytes(file),
    })
    if (targets[row + 1]?.blob === blob) continue
    const place = blob === noBlob ? { offset: 0, length: 0, plainBytes: 0 } : blobs.place(blob)
    if (blob !== noBlob) ids.set(blobs.id(blob), blobRow * 32)
    const within = prepared.isOpen
      ? { offset: 0, length: prepared.sealed.length, plainBytes: 0 }
      : { ...place, offset: place.offset - prepared.offset }
    writeBlobRow(blobRows, blobRow, { ...within, destinationsEnd: row + 1 })
    blobRow += 1
  }
  const paths = directories.map((directory) => opened.get(directory)?.child('') ?? Buffer.alloc(0))
  const { sealed, isOpen } = prepared
  return { sealed, isOpen, ids, blobRows, destinations, names: Buffer.concat(names), directories: paths }
}

interface Settled {
  readonly ready: readonly Target[]
  readonly problems: readonly PlaceProblem[]
  readonly damaged: Set<number>
}

/** Takes the problems. Returns whether a target is done. */
function settle(placing: Placing, { ready, problems, damaged }: Settled): (target: Target) => boolean {
  const { load, section } = placing
  const distinct = ready.filter(({ blob }, at) => ready[at + 1]?.blob !== blob)
  for (const problem of problems) {
    if (problem.kind === 'damaged') {
      const target = distinct[problem.blob]
      assert(target !== undefined, 'a problem is about a blob of the task')
      damaged.add(target.blob)
      continue
    }
    const target = ready[problem.destination]
    assert(target !== undefined, 'a problem is about a destination of the task')
    const path = pathOf(load, section, target.file)
    const isTaken = problem.kind === 'replaced' || problem.code === 'EEXIST'
    const error = isTaken ? conflict({ path }) : Object.assign(new Error(problem.message), { code: problem.code })
    breakFile(placing, target.file, error)
  }
  return ({ blob, file }) => !damaged.has(blob) && !placing.broken.has(file)
}

function breakFile(placing: Placing, file: number, error: unknown): void {
  if (placing.broken.has(file)) return
  placing.broken.add(file)
  placing.begun.delete(file)
  placing.section.files.setState(file, 'left')
  failed(placing.load, pathOf(placing.load, placing.section, file), error)
}

/** One blob of the file is in its place. */
async function conclude(
  placing: Placing,
  {
    file,
    opened,
    bytes,
  }: { readonly file: number; readonly opened: ReadonlyMap<number, AnchoredDirectory>; readonly bytes: number },
): Promise<void> {
  const { load, section } = placing
  const { files } = section
  const left = files.left(file) - 1
  files.setLeft(file, left)
  const path = () => pathOf(load, section, file)
  if (left > 0) return load.progressed(path, bytes)
  if (files.state(file) === 'pieces') {
    const directory = opened.get(files.directory(file))
    const begun = await placing.begun.get(file)
    placing.begun.delete(file)
    assert(directory !== undefined && begun !== undefined, 'the file is begun')
    try {
      await finishFile(load, section, { file, directory, begun, path: path() })
    } catch (error) {
      if (!(isFailure(error) || errnoOf(error) !== undefined)) throw error
      return breakFile(placing, file, error)
    }
  }
  load.progressed(path, bytes)
  load.counted('restored', { path, bytes: files.bytes(file) })
}

async function placeFromElsewhere(placing: Placing, blob: number): Promise<void> {
  const { load, section } = placing
  const id = section.blobs.id(blob).toString('hex')
  let plaintext: Buffer
  try {
    plaintext = await readBlob(load.vault, id, 'data')
  } catch (error) {
    if (!isFailure(error, 'object_missing') && !isFailure(error, 'object_damaged')) throw error
    section.blobs.eachReference(blob, (file) => breakFile(placing, file, error))
    return
  }
  for (const targets of targetsOf(section, [blob])) {
    await placeTargets(placing, { targets, sealed: plaintext, offset: 0, isOpen: true })
  }
}
