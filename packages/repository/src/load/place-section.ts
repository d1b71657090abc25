/**
 * Owns bringing the blobs of a section into its files: pack by pack, each blob read once, in few ranges, several ranges at
 * a time, opened and written by the threads of the pool. Memory is bounded by the slabs that ranges are read into.
 *
 * Invariants: 1. a file is made, or found again, before its first blob is written, and finished after its last. 2. A blob
 * that is damaged in one place is looked for in others; without any, each file that it belongs to is a problem, and gets
 * its other blobs: what can be brought back is.
 */
import { assert, isFailure } from '@stillpoint/core/kernel'
import { errnoOf } from '../blob/storage-failure.ts'
import { giveBack } from '../format/give-back.ts'
import { eachOf } from '../parallel.ts'
import { createSlabs, type Slab } from '../work/slabs.ts'
import { failed } from './attempt.ts'
import { type BegunFile, beginFile } from './begin-file.ts'
import { readBlob } from './blob-reader.ts'
import { type Decisions, outcomeOf } from './decide-files.ts'
import { finishFile } from './finish-file.ts'
import type { Load } from './load.ts'
import { pathOfDirectory, type Section } from './load-plan.ts'
import type { Hold } from './open-directories.ts'
import { type PackRange, rangeBytesMax, rangesOf } from './pack-ranges.ts'
import type { PlaceProblem } from './place-blobs.ts'
import { conflict } from './place-node.ts'
import {
  distinctBlobs,
  emptyTargets,
  inputOf,
  noBlob,
  type PlacedTogether,
  type Targets,
  targetsOf,
} from './placing-task.ts'

/** One for each thread, and one that is read meanwhile; far away stores answer several at a time. */
const rangesInFlightMin = 3
const rangesInFlightMax = 8
/** A blob that begins before the range is full may end behind it. */
const slabBytes = rangeBytesMax + (1 << 20)

interface Placing {
  readonly load: Load
  readonly section: Section
  readonly decisions: Decisions
  readonly begun: Map<number, Promise<BegunFile>>
  /** Files that cannot be written: no more of them is, and they are not finished. */
  readonly broken: Set<number>
  /** Files of which something is lost: they are not finished. */
  readonly torn: Set<number>
}

export async function placeSection(load: Load, section: Section, decisions: Decisions): Promise<void> {
  const placing: Placing = { load, section, decisions, begun: new Map(), broken: new Set(), torn: new Set() }
  await placeEmptyFiles(placing)
  const inFlight = Math.min(rangesInFlightMax, Math.max(rangesInFlightMin, load.vault.work.threads + 1))
  const slabs = createSlabs({ slabBytes, slabsMax: inFlight })
  await eachOf(rangesOf(section), inFlight, async (range) => {
    load.abort()
    const slab = await slabs.take(load.signal)
    try {
      await placeRange(placing, range, slab)
    } finally {
      slab.release()
    }
  })
}

async function placeRange(placing: Placing, range: PackRange, slab: Slab): Promise<void> {
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

async function placeEmptyFiles(placing: Placing): Promise<void> {
  const { section, decisions } = placing
  const { files } = section
  const isEmpty = (file: number) => files.content(file).length === 0 && files.left(file) === 0
  for (const targets of emptyTargets(section, (file) => isEmpty(file) && files.state(file) === 'whole')) {
    await placeTargets(placing, { targets, sealed: new Uint8Array(), offset: 0, isOpen: true })
  }
  for (let file = 0; file < files.size; file += 1) {
    if (isEmpty(file) && files.state(file) === 'pieces') await placeNothing(placing, file)
  }
  // Files that are only cut: all of their blobs are there.
  for (const [file, start] of decisions.starts) {
    if (start.kind === 'update' && files.left(file) === 0 && files.content(file).length > 0) {
      await placeNothing(placing, file)
    }
  }
}

/** A file that no blob is to be written to. */
async function placeNothing(placing: Placing, file: number): Promise<void> {
  const hold = placing.load.open.hold([placing.section.files.directory(file)])
  try {
    const begun = await begin(placing, file, hold)
    if (begun !== undefined) conclude(placing, { file, hold, begun, bytes: 0 })
  } finally {
    hold.release()
  }
}

/** Returns the blobs that are damaged. */
async function placeTargets(placing: Placing, together: PlacedTogether): Promise<ReadonlySet<number>> {
  const { load, section } = placing
  const damaged = new Set<number>()
  const directories = [...new Set(together.targets.files.map((file) => section.files.directory(file)))]
  const hold = load.open.hold(directories)
  try {
    const { targets, begun } = await beginAll(placing, together.targets, hold)
    if (targets.files.length === 0) return damaged
    const input = inputOf(load, section, { ...together, targets, begun, hold, directories })
    const options = { bytes: input.sealed.length, signal: load.signal }
    const problems = await load.vault.work.run('placeBlobs', input, options)
    if (problems.length > 0) settle(placing, { targets, problems, damaged })
    for (const [row, file] of targets.files.entries()) {
      const blob = targets.blobs[row] ?? noBlob
      if (damaged.has(blob) || placing.broken.has(file)) continue
      const bytes = blob === noBlob ? 0 : section.blobs.plainBytes(blob)
      conclude(placing, { file, hold, begun: begun.get(file), bytes })
    }
  } finally {
    hold.release()
  }
  return damaged
}

/** Makes or finds the files that are written in pieces. Leaves out those with a problem. */
async function beginAll(
  placing: Placing,
  targets: Targets,
  hold: Hold,
): Promise<{ readonly targets: Targets; readonly begun: ReadonlyMap<number, BegunFile> }> {
  const { files } = placing.section
  const begun = new Map<number, BegunFile>()
  let isComplete = placing.broken.size === 0
  for (const file of new Set(targets.files)) {
    if (placing.broken.has(file) || files.state(file) !== 'pieces') continue
    const found = await begin(placing, file, hold)
    if (found === undefined) isComplete = false
    else begun.set(file, found)
  }
  if (isComplete) return { targets, begun }
  const isReady = (row: number) => !placing.broken.has(targets.files[row] ?? 0)
  const ready: Targets = {
    blobs: targets.blobs.filter((_, row) => isReady(row)),
    files: targets.files.filter((_, row) => isReady(row)),
    positions: targets.positions.filter((_, row) => isReady(row)),
  }
  return { targets: ready, begun }
}

/** Undefined where that fails, which is a problem. Tasks at the same time share one beginning. */
async function begin(placing: Placing, file: number, hold: Hold): Promise<BegunFile | undefined> {
  const { load, section, decisions } = placing
  const { files } = section
  let begun = placing.begun.get(file)
  if (begun === undefined) {
    const path = pathOf(load, section, file)
    const place = { directory: hold.at(files.directory(file)), name: files.name(file), path }
    begun = beginFile(load, place, { start: decisions.starts.get(file), bytes: files.bytes(file) })
    placing.begun.set(file, begun)
  }
  try {
    return await begun
  } catch (error) {
    if (!(isFailure(error) || errnoOf(error) !== undefined)) throw error
    breakFile(placing, file, error)
    return undefined
  }
}

const pathOf = (load: Load, { files }: Section, file: number) =>
  `${pathOfDirectory(load.directories, files.directory(file))}${files.name(file)}`

interface Settled {
  readonly targets: Targets
  readonly problems: readonly PlaceProblem[]
  readonly damaged: Set<number>
}

/** Takes the problems. */
function settle(placing: Placing, { targets, problems, damaged }: Settled): void {
  const { load, section } = placing
  const distinct = distinctBlobs(targets)
  for (const problem of problems) {
    if (problem.kind === 'damaged') {
      const blob = distinct[problem.blob]
      assert(blob !== undefined, 'a problem is about a blob of the task')
      damaged.add(blob)
      continue
    }
    const file = targets.files[problem.destination]
    assert(file !== undefined, 'a problem is about a destination of the task')
    const path = pathOf(load, section, file)
    const isTaken = problem.kind === 'replaced' || problem.code === 'EEXIST'
    const error = isTaken ? conflict({ path }) : Object.assign(new Error(problem.message), { code: problem.code })
    breakFile(placing, file, error)
  }
}

function breakFile(placing: Placing, file: number, error: unknown): void {
  if (placing.broken.has(file)) return
  placing.broken.add(file)
  placing.begun.delete(file)
  placing.section.files.setState(file, 'left')
  failed(placing.load, pathOf(placing.load, placing.section, file), error)
}

/** One blob of the file is lost. */
function tearFile(placing: Placing, file: number, error: unknown): void {
  const { load, section } = placing
  const { files } = section
  if (placing.broken.has(file)) return
  if (files.state(file) === 'whole') return breakFile(placing, file, error)
  const left = files.left(file) - 1
  files.setLeft(file, left)
  if (left === 0) endTorn(placing, file)
  if (placing.torn.has(file)) return
  placing.torn.add(file)
  failed(load, pathOf(load, section, file), error)
}

/** All of it that there is has been written. Unfinished, it has another time than in the snapshot. */
function endTorn(placing: Placing, file: number): void {
  placing.begun.delete(file)
  placing.section.files.setState(file, 'left')
}

interface Concluded {
  readonly file: number
  readonly hold: Hold
  /** Of a file in pieces. */
  readonly begun: BegunFile | undefined
  readonly bytes: number
}

/** One blob of the file is in its place. */
function conclude(placing: Placing, { file, hold, begun, bytes }: Concluded): void {
  const { load, section } = placing
  const { files } = section
  const left = files.left(file) - 1
  files.setLeft(file, left)
  const path = () => pathOf(load, section, file)
  if (left > 0) return load.progressed(path, bytes)
  if (placing.torn.has(file)) {
    endTorn(placing, file)
    return load.progressed(path, bytes)
  }
  if (begun !== undefined) {
    placing.begun.delete(file)
    try {
      finishFile(load, section, { file, directory: hold.at(files.directory(file)), begun, path: path() })
    } catch (error) {
      if (!(isFailure(error) || errnoOf(error) !== undefined)) throw error
      return breakFile(placing, file, error)
    }
  }
  load.progressed(path, bytes)
  load.counted({ kind: 'file', outcome: outcomeOf(placing.decisions, file), path, bytes: files.bytes(file) })
}

async function placeFromElsewhere(placing: Placing, blob: number): Promise<void> {
  const { load, section } = placing
  const { blobs } = section
  const id = blobs.id(blob).toString('hex')
  let plaintext: Buffer
  try {
    plaintext = await readBlob(load.vault, id, 'data')
  } catch (error) {
    if (!isFailure(error, 'object_missing') && !isFailure(error, 'object_damaged')) throw error
    for (let at = blobs.firstReference(blob); at >= 0; at = blobs.nextReference(at)) {
      tearFile(placing, blobs.fileAt(at), error)
    }
    return
  }
  for (const targets of targetsOf(section, [blob])) {
    await placeTargets(placing, { targets, sealed: plaintext, offset: 0, isOpen: true })
  }
}
