/**
 * Owns answering what rules leave out: by name, before anything of an entry is looked at, and by status then. It asks the
 * operating system about the directory where it must, in the calling thread, once for each directory.
 */
import { closeSync, constants, lstatSync, openSync, readSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { FileStatus } from '../native/file-status.ts'
import { decodeRules, type ExcludeRules, type FolderMarker, parsePatterns } from './exclude-rules.ts'
import { anyMatches } from './path-pattern.ts'

export interface ExcludedFolder {
  /** Absolute. */
  readonly path: string
  /** Where the operating system finds an entry of it; of the empty name, the directory. */
  at(name: string): Buffer | string
}

export interface Excluder {
  /** By its absolute path. */
  isOutByName(path: string): boolean
  /** For what `isOutByName` lets pass, of one directory. Undefined where status tells nothing. */
  inFolder(folder: ExcludedFolder): ((name: string, status: FileStatus) => boolean) | undefined
}

/** @throws Failure `options_invalid` */
export function createExcluder(rules: ExcludeRules): Excluder {
  const patterns = parsePatterns(rules.patterns)
  const { fileBytesMax, markers = [], fileSystems } = rules
  const devices = fileSystems === undefined ? undefined : new Map(fileSystems.map(({ path, device }) => [path, device]))
  const asksStatus = fileBytesMax !== undefined || markers.length > 0 || devices !== undefined
  return {
    isOutByName: (path) => anyMatches(patterns, path),
    inFolder(folder) {
      if (!asksStatus) return undefined
      const isElsewhere = devices === undefined ? undefined : elsewhere(devices, folder)
      let found: readonly FolderMarker[] | undefined
      return (name, status) => {
        if (fileBytesMax !== undefined && status.isFile() && status.size > fileBytesMax) return true
        if (isElsewhere?.(name, status) === true) return true
        found ??= markers.filter((marker) => isMarked(folder, marker))
        return found.some((marker) => marker.name !== name)
      }
    },
  }
}

const last = { text: '', excluder: undefined as Excluder | undefined }

/** The same of encoded rules, which are those of the last call most of the time. */
export function excluderOf(text: string): Excluder {
  if (last.excluder !== undefined && last.text === text) return last.excluder
  const excluder = createExcluder(decodeRules(text))
  last.text = text
  last.excluder = excluder
  return excluder
}

/** Asked of the directory by its path, for an entry that was named itself. */
export function folderByPath(path: string): ExcludedFolder {
  return { path, at: (name) => join(path, name) }
}

/** The place where another file system is mounted is kept, for a restore to have it. */
function elsewhere(devices: ReadonlyMap<string, bigint>, folder: ExcludedFolder) {
  const around = nearest(devices, folder.path)
  let isFolderElsewhere: boolean | undefined
  return (name: string, status: FileStatus): boolean => {
    const home = devices.get(join(folder.path, name)) ?? around
    if (home === undefined || status.dev === home) return false
    if (!status.isDirectory()) return true
    isFolderElsewhere ??= around !== undefined && lstatSync(folder.at(''), { bigint: true }).dev !== around
    return isFolderElsewhere
  }
}

/** The device of what was named and is this, or the next that it is in. */
function nearest(devices: ReadonlyMap<string, bigint>, path: string): bigint | undefined {
  for (let at = path; ; at = dirname(at)) {
    const device = devices.get(at)
    if (device !== undefined || at === dirname(at)) return device
  }
}

/** Where it cannot be told, the directory is saved: too much is better than too little. */
function isMarked(folder: ExcludedFolder, { name, header }: FolderMarker): boolean {
  try {
    const status = lstatSync(folder.at(name), { throwIfNoEntry: false })
    if (status === undefined || header === '') return status !== undefined
    return status.isFile() && beginsWith(folder.at(name), Buffer.from(header, 'utf8'))
  } catch {
    return false
  }
}

function beginsWith(path: Buffer | string, wanted: Buffer): boolean {
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const found = Buffer.alloc(wanted.length)
    const bytes = readSync(descriptor, found, 0, found.length, 0)
    return found.subarray(0, bytes).equals(wanted)
  } finally {
    closeSync(descriptor)
  }
}
