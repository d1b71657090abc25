/** Owns the task that looks at many entries of an open directory at once, and what is told of each: see scan-entry.ts. */
import { bytesFromName } from '../format/node-name.ts'
import { type EntryAt, type FolderAt, pathOf } from '../native/folder-entries.ts'
import { excluderOf } from '../selection/excluder.ts'
import { type Findings, makeFindings } from './findings.ts'
import { createParentTree, type ParentTree } from './parent-tree.ts'
import { type Scan, type ScanRules, scanEntry } from './scan-entry.ts'
import type { ScannedFolder } from './scan-folders.ts'

export interface ScanInput {
  /** The directory. */
  readonly folder: FolderAt
  /** Its absolute path. */
  readonly path: string
  /** Shared memory for content. */
  readonly window: Uint8Array
  readonly rules: ScanRules
}

export interface ScanNamesInput extends ScanInput {
  /** Sorted by their bytes. */
  readonly names: readonly string[]
  /** The directory's tree in the parent, and where in it the first of the names may be. */
  readonly parent: { readonly tree: Uint8Array; readonly at: number } | undefined
}

/**
 * What is not done: it is left out (`out`), or left to the caller to save. Of a directory, what has been found out about
 * it; without that it may be anything.
 */
export interface LeftEntry {
  readonly kind: 'folder' | 'other' | 'out'
  readonly opened?: ScannedFolder
}

export interface ScannedNames {
  /** Of the first names, for the window may be too small for all: how it stands in the tree, or that it is left. */
  readonly entries: readonly (string | LeftEntry)[]
  /** Where in the parent's tree the next name may be. */
  readonly parentAt: number
}

export function scanNames({
  names,
  folder,
  path,
  parent,
  ...input
}: ScanNamesInput): ScannedNames & { findings: Findings } {
  const findings = makeFindings()
  const parents = parent === undefined ? undefined : createParentTree(parent.tree, parent.at)
  const scan = { ...input, findings, filled: 0, namesLeft: names.length }
  const scanned = lookAtNames(scan, { names, folder, path, prefix: '', parents })
  return { ...scanned, findings: findings.finish() }
}

export interface BoundedScan extends Scan {
  /** How many names may still be looked at. */
  namesLeft: number
}

export interface NamesPlace {
  readonly names: readonly string[]
  readonly folder: FolderAt
  /** Its absolute path. */
  readonly path: string
  /** Of paths in findings. */
  readonly prefix: string
  /** The directory in the parent. */
  readonly parents: ParentTree | undefined
}

/** A directory in it. */
export interface FolderName {
  readonly name: string
  /** In findings. */
  readonly path: string
  readonly at: EntryAt
}

const left = { folder: { kind: 'folder' }, other: { kind: 'other' }, out: { kind: 'out' } } as const

/** `onFolder`: what becomes of a directory, if not to be left. */
export function lookAtNames(
  scan: BoundedScan,
  place: NamesPlace,
  onFolder: (folder: FolderName) => string | LeftEntry = () => left.folder,
): ScannedNames {
  const { names, folder, prefix, parents } = place
  const isOut = statusRules(scan, place)
  const entries: (string | LeftEntry)[] = []
  let parentAt = parents?.position ?? 0
  for (const name of names) {
    if (scan.namesLeft === 0) break
    scan.namesLeft -= 1
    const named = { name, path: `${prefix}${name}`, at: { folder, name: bytesFromName(name) } }
    const entry = scanEntry(scan, { ...named, parents, isOut })
    if (entry.kind === 'full') {
      scan.namesLeft = 0
      break
    }
    if (entry.kind === 'done') entries.push(entry.json)
    else entries.push(entry.kind === 'folder' ? onFolder(named) : left[entry.kind])
    parentAt = parents?.position ?? 0
    if (scan.findings.isMuch) scan.namesLeft = 0
  }
  return { entries, parentAt }
}

function statusRules({ rules }: BoundedScan, { path, folder }: NamesPlace) {
  if (rules.excludes === undefined) return undefined
  return excluderOf(rules.excludes).inFolder({ path, at: (name) => pathOf({ folder, name: bytesFromName(name) }) })
}
