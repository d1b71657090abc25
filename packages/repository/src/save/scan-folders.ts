/**
 * Owns the task that opens a directory, lists it and looks at the first of its entries (scan-files.ts): a tree of many
 * small directories is mostly this, and each promise of a system call costs more than ten such calls.
 *
 * Invariant: the directory is open when this has returned, and not when it has thrown.
 */
import { closeSync, fstatSync } from 'node:fs'
import { holdChild } from '../anchored-directory.ts'
import { directoryItself, readAttributes } from '../extended-attributes.ts'
import type { NodeMetadata } from '../format/tree.ts'
import { accountNamesOf, metadataOf } from './file-status.ts'
import { type ScanFilesInput, type ScannedFiles, scanFiles } from './scan-files.ts'

export interface ScanFolderInput {
  /** Of the directory: a child of one that is open. */
  readonly path: Uint8Array
  readonly name: string
  readonly accounts: string
  readonly withAtime: boolean
  /** Where all that is in it is to be looked at: with what, and how many at a time. */
  readonly scan: (Omit<ScanFilesInput, 'path' | 'names'> & { readonly namesMax: number }) | undefined
}

export interface ScannedFolder {
  /** Who gets it closes it. */
  readonly fd: number
  readonly metadata: NodeMetadata
  /** Its extended attributes could not all be read. */
  readonly lacksAttributes: boolean
  /** Sorted by their bytes. */
  readonly names: readonly string[]
  /** Of the first names. */
  readonly files: ScannedFiles | undefined
}

/** @throws errors of the operating system; ENOTDIR or ELOOP where it is no directory */
export function scanFolder(input: ScanFolderInput): ScannedFolder {
  const { name, withAtime, scan } = input
  const directory = holdChild(Buffer.from(input.path))
  try {
    const status = fstatSync(directory.fd, { bigint: true })
    const { attributes, failure } = readAttributes(directoryItself(directory.child))
    const metadata = { ...metadataOf(name, status, accountNamesOf(input.accounts)), extendedAttributes: attributes }
    const names = directory.names()
    const path = directory.child('')
    return {
      fd: directory.fd,
      metadata: withAtime ? { ...metadata, atime: status.atimeNs } : metadata,
      lacksAttributes: failure !== undefined,
      names,
      files: scan === undefined ? undefined : scanFiles({ ...scan, path, names: names.slice(0, scan.namesMax) }),
    }
  } catch (error) {
    closeSync(directory.fd)
    throw error
  }
}
