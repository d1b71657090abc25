/** Owns what one task of placing blobs is asked: which blobs go where, in columns that cross threads as they are. */
import { assert } from '@stillpoint/core/kernel'
import { idBytes } from '../format/ids.ts'
import type { BegunFile } from './begin-file.ts'
import type { Load } from './load.ts'
import type { Section } from './load-plan.ts'
import type { Hold } from './open-directories.ts'
import { blobFields, destinationFields, type PlaceBlobsInput, writeBlobRow, writeDestination } from './place-blobs.ts'

/** One blob on its way to one file, per row; those of one blob are neighbours. */
export interface Targets {
  readonly blobs: number[]
  readonly files: number[]
  /** Where in the file. */
  readonly positions: number[]
}

/** Stands for no content at all. */
export const noBlob = -1

const newTargets = (): Targets => ({ blobs: [], files: [], positions: [] })

/** Directories and files of one task. */
const directoriesPerTask = 64
const destinationsPerTask = 2048

/** Everything that the blobs are needed for, in pieces for one task each. */
export function* targetsOf({ blobs, files }: Section, numbers: Iterable<number>): Generator<Targets> {
  let targets = newTargets()
  const directories = new Set<number>()
  for (const blob of numbers) {
    for (let at = blobs.firstReference(blob); at >= 0; at = blobs.nextReference(at)) {
      const file = blobs.fileAt(at)
      targets.blobs.push(blob)
      targets.files.push(file)
      targets.positions.push(blobs.positionAt(at))
      directories.add(files.directory(file))
      if (directories.size < directoriesPerTask && targets.files.length < destinationsPerTask) continue
      yield targets
      targets = newTargets()
      directories.clear()
    }
  }
  if (targets.files.length > 0) yield targets
}

/** Files without content. */
export function* emptyTargets({ files }: Section, isWanted: (file: number) => boolean): Generator<Targets> {
  let targets = newTargets()
  for (let file = 0; file < files.size; file += 1) {
    if (!isWanted(file)) continue
    targets.blobs.push(noBlob)
    targets.files.push(file)
    targets.positions.push(0)
    if (targets.files.length < directoriesPerTask) continue
    yield targets
    targets = newTargets()
  }
  if (targets.files.length > 0) yield targets
}

export interface PlacedTogether {
  readonly targets: Targets
  readonly sealed: Uint8Array
  /** Of `sealed` in the pack. */
  readonly offset: number
  readonly isOpen: boolean
}

export interface Prepared extends PlacedTogether {
  /** Of files in pieces. */
  readonly begun: ReadonlyMap<number, BegunFile>
  readonly directories: readonly number[]
  readonly hold: Hold
}

export function inputOf(load: Load, { files, blobs }: Section, prepared: Prepared): PlaceBlobsInput {
  const { targets, begun, directories, hold, sealed, isOpen, offset } = prepared
  const rows = targets.files.length
  const places = new Map(directories.map((directory, at) => [directory, at]))
  const destinations = new Float64Array(rows * destinationFields)
  let blobCount = 0
  let nameBytes = 0
  for (let row = 0; row < rows; row += 1) {
    if (isLastOfBlob(targets, row)) blobCount += 1
    nameBytes += files.nameLength(targets.files[row] ?? 0)
  }
  const names = new Uint8Array(nameBytes)
  const ids = new Uint8Array(blobCount * idBytes)
  const blobRows = new Float64Array(blobCount * blobFields)
  let nameEnd = 0
  let blobRow = 0
  for (let row = 0; row < rows; row += 1) {
    const file = targets.files[row] ?? 0
    const blob = targets.blobs[row] ?? noBlob
    const directory = files.directory(file)
    nameEnd = files.copyName(file, names, nameEnd)
    const piece = begun.get(file)
    const made = load.directories.get(directory)?.made
    assert(made !== undefined, 'a file is restored into a directory that was made')
    const isPlain = made.isPlain && piece === undefined
    const permissions = files.permissions(file)
    const uid = load.owners.canChange ? files.uid(file) : -1
    const gid = load.owners.canChange ? files.gid(file) : -1
    const isOwned = uid === -1 || (isPlain && uid === load.owners.uid && gid === load.owners.gid)
    writeDestination(destinations, row, {
      directory: places.get(directory) ?? 0,
      nameEnd,
      position: targets.positions[row] ?? 0,
      inode: piece?.inode ?? 0,
      device: piece?.device ?? 0,
      isSparse: piece?.isSparse ?? true,
      permissions,
      isMadeSo: isPlain && isOwned && (permissions & load.umask) === 0,
      uid: isOwned ? -1 : uid,
      gid: isOwned ? -1 : gid,
      atime: files.atime(file),
      mtime: files.mtime(file),
    })
    if (!isLastOfBlob(targets, row)) continue
    if (blob !== noBlob) blobs.copyId(blob, ids, blobRow * idBytes)
    const place = blob === noBlob || isOpen ? { offset, length: sealed.length, plainBytes: 0 } : blobs.place(blob)
    writeBlobRow(blobRows, blobRow, { ...place, offset: place.offset - offset, destinationsEnd: row + 1 })
    blobRow += 1
  }
  const folders = directories.map((directory) => {
    const { fd, child } = hold.at(directory)
    return { fd, at: child('') }
  })
  return { sealed, isOpen, ids, blobRows, destinations, names, directories: folders }
}

function isLastOfBlob({ blobs }: Targets, row: number): boolean {
  return blobs[row + 1] !== blobs[row]
}

/** Blobs of the task, in the order of its rows of blobs. */
export function distinctBlobs(targets: Targets): readonly number[] {
  return targets.blobs.filter((_, row) => isLastOfBlob(targets, row))
}
