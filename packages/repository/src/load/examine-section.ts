/** Owns asking what is in the target, for many files at a time, in tasks of a bounded size. Changes nothing there. */
import { assert } from '@stillpoint/core/kernel'
import { idBytes } from '../format/ids.ts'
import { eachOf } from '../parallel.ts'
import type { ExaminedFile, FoundFile } from './examine-files.ts'
import type { Load, Overwrite } from './load.ts'
import type { Section } from './load-plan.ts'

const filesPerTask = 1024
const bytesPerTask = 32 << 20

interface TaskFile {
  readonly file: number
  /** Which of its blobs, counted in its content. */
  readonly from: number
  readonly to: number
  readonly position: number
}

/** Calls `visit` with what is in the place of each file. */
export async function examineSection(
  load: Load,
  section: Section,
  { files, overwrite }: { readonly files: readonly number[]; readonly overwrite: Overwrite },
  visit: (file: number, found: FoundFile) => void,
): Promise<void> {
  const large = new Map<number, FoundFile>()
  await eachOf(tasksOf(section, files), load.vault.work.threads + 1, async (task) => {
    load.abort()
    const answers = await examineTask(load, section, { task, overwrite })
    for (const [at, found] of answers.entries()) {
      const part = task[at]
      assert(part !== undefined, 'each file is answered')
      const isWhole = part.to - part.from === section.files.content(part.file).length
      if (isWhole) visit(part.file, found)
      else large.set(part.file, merge(section, large.get(part.file), { part, found }))
    }
  })
  for (const [file, found] of large) visit(file, found)
}

/** Files that are small together, and parts of those that are large. */
function* tasksOf(section: Section, files: readonly number[]): Generator<readonly TaskFile[]> {
  let task: TaskFile[] = []
  let bytes = 0
  for (const file of files) {
    const content = section.files.content(file)
    let position = 0
    for (let from = 0; from === 0 || from < content.length; ) {
      let to = from
      const begin = position
      while (to < content.length && bytes < bytesPerTask) {
        const length = section.blobs.plainBytes(content[to] ?? 0)
        position += length
        bytes += length
        to += 1
      }
      task.push({ file, from, to, position: begin })
      if (task.length >= filesPerTask || bytes >= bytesPerTask) {
        yield task
        task = []
        bytes = 0
      }
      from = Math.max(to, 1)
    }
  }
  if (task.length > 0) yield task
}

async function examineTask(
  load: Load,
  section: Section,
  { task, overwrite }: { readonly task: readonly TaskFile[]; readonly overwrite: Overwrite },
): Promise<readonly FoundFile[]> {
  const { files, blobs } = section
  const directories = [...new Set(task.map(({ file }) => files.directory(file)))]
  const places = new Map(directories.map((directory, at) => [directory, at]))
  const count = task.reduce((sum, { from, to }) => sum + to - from, 0)
  const ids = new Uint8Array(count * idBytes)
  const lengths = new Float64Array(count)
  let at = 0
  let bytes = 0
  const examined = task.map(({ file, from, to, position }): ExaminedFile => {
    for (const blob of files.content(file).subarray(from, to)) {
      ids.set(blobs.id(blob), at * idBytes)
      lengths[at] = blobs.plainBytes(blob)
      bytes += blobs.plainBytes(blob)
      at += 1
    }
    return {
      directory: places.get(files.directory(file)) ?? 0,
      name: files.nameBytes(file).slice(),
      bytes: files.bytes(file),
      mtime: files.mtime(file),
      permissions: files.permissions(file),
      uid: load.owners.canChange ? files.uid(file) : -1,
      gid: load.owners.canChange ? files.gid(file) : -1,
      hasAttributes: section.attributes.has(file),
      position,
      blobs: to - from,
    }
  })
  const hold = load.open.hold(directories)
  try {
    const paths = directories.map((directory) => hold.at(directory).child(''))
    const input = { directories: paths, files: examined, ids, lengths, overwrite }
    return await load.vault.work.run('examineFiles', input, { bytes, signal: load.signal })
  } finally {
    hold.release()
  }
}

/** Parts of a large file are examined apart. */
function merge(
  section: Section,
  known: FoundFile | undefined,
  { part, found }: { readonly part: TaskFile; readonly found: FoundFile },
): FoundFile {
  if (found.kind !== 'file' || (known !== undefined && known.kind !== 'file')) return found
  if (known !== undefined && known.inode !== found.inode) return known // replaced meanwhile: what is not known is not there
  const there = known?.there ?? new Uint8Array(section.files.content(part.file).length)
  there.set(found.there, part.from)
  return { ...found, there }
}
