/**
 * Where one participant's captured parts go: into a save of the repository, as one tree.
 *
 * Owns: the names of the parts and the tree over them. Does not own: the save, which all participants of a cut on this
 * node share, and which is finished when the cut is sealed.
 *
 * Invariants: a part that failed half-way is in no tree; nothing that a manifest names is left out in silence.
 */
import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure, participantName, type TreeId } from '@stillpoint/core/kernel'
import { readAttributes, type Save, type SavedDirectory, type TreeEntry } from '@stillpoint/repository'
import { sameStamp, stampOf } from '../sources/files/stamp.ts'
import type { CaptureProgress, CaptureSink, Chunking, DirectoryManifest, EntryStamp } from '../sources/source.ts'
import type { ParticipantSink } from './store-participant.ts'

export interface RepositorySinkOptions {
  readonly save: Save
  readonly signal: AbortSignal
  readonly onProgress: (progress: CaptureProgress) => void
}

interface Part {
  bytes: number
  files: number
  entry: TreeEntry | undefined
}

type DirectoryOptions = Parameters<CaptureSink['directory']>[2]

export class RepositorySink implements ParticipantSink {
  readonly #options: RepositorySinkOptions
  readonly #parts = new Map<string, Part>()
  readonly #notes: string[] = []

  constructor(options: RepositorySinkOptions) {
    this.#options = options
  }

  async file(
    name: string,
    content: AsyncIterable<Uint8Array>,
    options: { readonly chunking?: Chunking } = {},
  ): Promise<{ bytes: number }> {
    const part = this.#begin(name)
    const { save, signal } = this.#options
    const saved = await save.saveStream(content, {
      ...options,
      signal,
      onProgress: ({ bytes }) => this.#advance(part, { bytes, files: 0 }),
    })
    part.entry = { name, type: 'file', bytes: saved.bytes, content: saved.content }
    this.#advance(part, { bytes: saved.bytes, files: 1 })
    return { bytes: saved.bytes }
  }

  async directory(
    name: string,
    path: string,
    { manifest, exclude, linked }: DirectoryOptions,
  ): Promise<{ bytes: number; files: number; torn: readonly string[] }> {
    const part = this.#begin(name)
    const { save, signal } = this.#options
    const isLeftOut = (relative: string) =>
      exclude?.(relative) === true || (manifest !== undefined && !manifest.has(relative))
    const saved = await save.saveDirectory(path, {
      signal,
      exclude: isLeftOut,
      ctimeTells: linked !== true,
      ...(manifest === undefined ? {} : { expect: await fingerprints(manifest, path) }),
      onProgress: ({ bytes, files }) => this.#advance(part, { bytes, files }),
    })
    const status = await lstat(path, { bigint: true })
    const times = { mtime: status.mtimeNs, atime: status.atimeNs, ctime: status.ctimeNs }
    const owner = { uid: Number(status.uid), gid: Number(status.gid), permissions: Number(status.mode) & 0o7777 }
    // Through the directory, not the link that `path` may be.
    const { attributes: extendedAttributes } = readAttributes(Buffer.from(`${path}/.`))
    part.entry = { name, type: 'dir', subtree: saved.tree, ...owner, ...times, extendedAttributes }
    this.#advance(part, saved)
    for (const skipped of saved.skipped) this.#notes.push(`${skipped} is a socket: it has no content to capture`)
    return { bytes: saved.bytes, files: saved.files, torn: tornOf(saved) }
  }

  async finish(): Promise<{ tree: TreeId; notes: readonly string[] }> {
    const entries = [...this.#parts.values()].flatMap(({ entry }) => (entry === undefined ? [] : [entry]))
    return { tree: await this.#options.save.saveTree(entries), notes: this.#notes }
  }

  #begin(name: string): Part {
    participantName(name)
    if (this.#parts.has(name)) {
      const hint = 'This is an error of the source; please report it.'
      throw new Failure({ code: 'part_exists', message: `the part ${name} has been captured twice`, hint })
    }
    const part: Part = { bytes: 0, files: 0, entry: undefined }
    this.#parts.set(name, part)
    return part
  }

  #advance(part: Part, { bytes, files }: CaptureProgress): void {
    part.bytes = bytes
    part.files = files
    let bytesAll = 0
    let filesAll = 0
    for (const each of this.#parts.values()) {
      bytesAll += each.bytes
      filesAll += each.files
    }
    this.#options.onProgress({ bytes: bytesAll, files: filesAll })
  }
}

/** What could not be read is no less torn than what has changed. */
function tornOf({ changed, errors }: SavedDirectory): readonly string[] {
  return [...changed, ...errors.map(({ path, failure }) => `${path} (${failure.message})`)]
}

/** The source's stamps in the words of the repository's manifest (repository/save/file-status.ts). */
async function fingerprints(manifest: DirectoryManifest, path: string): Promise<ReadonlyMap<string, string>> {
  const result = new Map<string, string>()
  for (const [relative, stamp] of manifest) {
    if (relative !== '') result.set(relative, await fingerprint(stamp, join(path, relative)))
  }
  return result
}

async function fingerprint(stamp: EntryStamp, path: string): Promise<string> {
  const rest = `${stamp.inode}:${stamp.bytes}:${stamp.mtimeNs}:${stamp.ctimeNs}`
  switch (stamp.type) {
    case 'directory':
      return 'dir'
    case 'file':
    case 'symlink':
      return `${stamp.type}:${rest}`
    case 'other': {
      // The stamp does not tell a device from a socket; what is there now does, if it is still the same thing.
      const status = await lstat(path, { bigint: true }).catch(() => undefined) // gone: the save will report it
      if (status === undefined || !sameStamp(stampOf(status), stamp)) return 'changed'
      if (status.isBlockDevice()) return `dev:${rest}`
      if (status.isCharacterDevice()) return `chardev:${rest}`
      if (status.isFIFO()) return `fifo:${rest}`
      return `${status.isSocket() ? 'socket' : 'irregular'}:${rest}`
    }
  }
}
