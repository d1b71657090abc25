/**
 * A capture's parts in memory: real bytes and real directories, for tests and for `stillpoint source verify`.
 *
 * Owns: a sink that keeps what it is given, and the parts read back from it. Does not own: a repository; nothing here is
 * meant for stores that do not fit into memory.
 *
 * Invariants: what `MemoryParts` yields is what the sink was given, byte for byte; a part that failed half-way is not
 * there; a directory is written below its target only, and symlinks are stored as links and never followed.
 */
import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { lstat, lutimes, mkdir, open, readdir, readlink, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure, participantName } from '@stillpoint/core/kernel'
import { sameStamp, stampOf } from './files/stamp.ts'
import type { CaptureSink, DirectoryManifest, EntryStamp, Parts } from './source.ts'

const readBytes = 64 * 1024

type StoredEntry =
  | { readonly type: 'file'; readonly mode: number; readonly mtimeMs: number; readonly content: Buffer }
  | { readonly type: 'directory'; readonly mode: number; readonly mtimeMs: number }
  | { readonly type: 'symlink'; readonly target: string }
  | { readonly type: 'other' }

type StoredPart =
  | { readonly kind: 'file'; readonly content: Buffer }
  | { readonly kind: 'directory'; readonly entries: ReadonlyMap<string, StoredEntry> }

export class MemorySink implements CaptureSink {
  readonly #parts = new Map<string, StoredPart>()

  async file(name: string, content: AsyncIterable<Uint8Array>): Promise<{ bytes: number }> {
    const chunks: Uint8Array[] = []
    // A copy of each chunk: a source may reuse its buffer once the sink asks for more.
    for await (const chunk of content) chunks.push(Uint8Array.from(chunk))
    const whole = Buffer.concat(chunks)
    this.#add(name, { kind: 'file', content: whole })
    return { bytes: whole.length }
  }

  async directory(
    name: string,
    path: string,
    options: { readonly manifest?: DirectoryManifest; readonly exclude?: (relativePath: string) => boolean },
  ): Promise<{ bytes: number; files: number; torn: readonly string[] }> {
    const { manifest, exclude } = options
    const names = manifest ? [...manifest.keys()] : await walk(path, exclude)
    const entries = new Map<string, StoredEntry>()
    const torn = new Set<string>()
    let bytes = 0
    let files = 0
    for (const relative of names.toSorted()) {
      const stored = await readEntry(join(path, relative), manifest?.get(relative))
      if (!stored.whole) torn.add(relative)
      if (stored.entry === undefined) continue
      entries.set(relative, stored.entry)
      if (stored.entry.type === 'file') {
        files += 1
        bytes += stored.entry.content.length
      }
    }
    this.#add(name, { kind: 'directory', entries })
    return { bytes, files, torn: [...torn] }
  }

  parts(): MemoryParts {
    return new MemoryParts(new Map(this.#parts))
  }

  #add(name: string, part: StoredPart): void {
    participantName(name)
    if (this.#parts.has(name)) {
      throw new Failure({
        code: 'part_exists',
        message: `the part ${name} has been written twice`,
        hint: 'A bug of the source.',
      })
    }
    this.#parts.set(name, part)
  }
}

export class MemoryParts implements Parts {
  readonly #parts: ReadonlyMap<string, StoredPart>

  constructor(parts: ReadonlyMap<string, StoredPart>) {
    this.#parts = parts
  }

  names(): readonly string[] {
    return [...this.#parts.keys()]
  }

  async *file(name: string, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const part = this.#parts.get(name)
    if (part?.kind !== 'file') throw missing(name)
    for (let at = 0; at < part.content.length; at += readBytes) {
      signal.throwIfAborted()
      yield part.content.subarray(at, at + readBytes)
    }
  }

  async directory(name: string, target: string, signal: AbortSignal): Promise<{ bytes: number; files: number }> {
    const entries = this.#entriesOf(name)
    const later: { path: string; mtimeMs: number }[] = []
    let bytes = 0
    let files = 0
    for (const [relative, entry] of entries) {
      signal.throwIfAborted()
      checkInside(relative)
      const path = join(target, relative)
      if (entry.type === 'directory') {
        if (relative !== '') await mkdir(path, { mode: entry.mode })
        later.push({ path, mtimeMs: entry.mtimeMs })
      } else if (entry.type === 'symlink') {
        await symlink(entry.target, path)
      } else if (entry.type === 'file') {
        await writeFile(path, entry.content, { mode: entry.mode, flag: 'wx' })
        await lutimes(path, entry.mtimeMs / 1000, entry.mtimeMs / 1000)
        files += 1
        bytes += entry.content.length
      }
    }
    // Children first: writing into a directory changes its time.
    for (const { path, mtimeMs } of later.toReversed()) await lutimes(path, mtimeMs / 1000, mtimeMs / 1000)
    return { bytes, files }
  }

  async *entries(
    name: string,
    signal: AbortSignal,
  ): AsyncIterable<{ path: string; type: string; bytes: number; sha256?: string }> {
    for (const [path, entry] of this.#entriesOf(name)) {
      signal.throwIfAborted()
      if (entry.type !== 'file') yield { path, type: entry.type, bytes: 0 }
      else yield { path, type: 'file', bytes: entry.content.length, sha256: sha256(entry.content) }
    }
  }

  /** SHA-256 over all parts: equal for equal names and contents. */
  digest(): string {
    const hash = createHash('sha256')
    for (const [name, part] of [...this.#parts].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
      hash.update(`${part.kind} ${JSON.stringify(name)}\n`)
      if (part.kind === 'file') hash.update(`${sha256(part.content)}\n`)
      else for (const [path, entry] of part.entries) hash.update(`${JSON.stringify(path)} ${entryDigest(entry)}\n`)
    }
    return hash.digest('hex')
  }

  /** The same parts with one of them replaced: what damage looks like to `restore` and `verify`. */
  with(name: string, content: Uint8Array): MemoryParts {
    return new MemoryParts(new Map([...this.#parts, [name, { kind: 'file', content: Buffer.from(content) }]]))
  }

  #entriesOf(name: string): ReadonlyMap<string, StoredEntry> {
    const part = this.#parts.get(name)
    if (part?.kind !== 'directory') throw missing(name)
    return part.entries
  }
}

function missing(name: string): Failure {
  return new Failure({
    code: 'part_missing',
    message: `there is no part ${JSON.stringify(name)}`,
    hint: 'The snapshot was made by another kind of source, or by a newer version.',
  })
}

function checkInside(relative: string): void {
  const segments = relative.split('/')
  if (relative !== '' && segments.some((segment) => segment === '' || segment === '.' || segment === '..')) {
    throw new Failure({ code: 'path_unsafe', message: `${JSON.stringify(relative)} leads out of the directory` })
  }
}

function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}

function entryDigest(entry: StoredEntry): string {
  switch (entry.type) {
    case 'file':
      return `file ${entry.mode} ${sha256(entry.content)}`
    case 'directory':
      return `directory ${entry.mode}`
    case 'symlink':
      return `symlink ${JSON.stringify(entry.target)}`
    case 'other':
      return 'other'
  }
}

async function walk(root: string, exclude: ((relativePath: string) => boolean) | undefined): Promise<string[]> {
  const found = ['']
  for (let at = 0; at < found.length; at += 1) {
    const relative = found[at] ?? ''
    if (!(await lstat(join(root, relative))).isDirectory()) continue
    for (const child of await readdir(join(root, relative))) {
      const path = relative === '' ? child : `${relative}/${child}`
      if (exclude?.(path) !== true) found.push(path)
    }
  }
  return found
}

/** `whole`: the entry was, before and after it was read, what the manifest says (or, without one, the same). */
async function readEntry(
  path: string,
  expected: EntryStamp | undefined,
): Promise<{ entry: StoredEntry | undefined; whole: boolean }> {
  try {
    const before = await lstat(path, { bigint: true })
    const stamp = stampOf(before)
    const mode = Number(before.mode & 0o7777n)
    const mtimeMs = Number(before.mtimeNs / 1_000_000n)
    let entry: StoredEntry
    if (stamp.type === 'directory') entry = { type: 'directory', mode, mtimeMs }
    else if (stamp.type === 'symlink') entry = { type: 'symlink', target: await readlink(path) }
    else if (stamp.type === 'file') entry = { type: 'file', mode, mtimeMs, content: await readNoFollow(path) }
    else entry = { type: 'other' }
    const after = stampOf(await lstat(path, { bigint: true }))
    return { entry, whole: sameStamp(after, expected ?? stamp) }
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ELOOP')) {
      return { entry: undefined, whole: false }
    }
    throw error
  }
}

async function readNoFollow(path: string): Promise<Buffer> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    return await file.readFile()
  } finally {
    await file.close()
  }
}
