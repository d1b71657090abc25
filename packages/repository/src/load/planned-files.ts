/**
 * Owns what a restore remembers of each file until it is whole: about 100 bytes, for there may be millions. What only few
 * files have (extended attributes, several names) is kept beside it.
 */
import { bytesFromName, nameFromBytes } from '../format/node-name.ts'
import type { FileNode } from '../format/tree.ts'
import { grown } from './growing.ts'

/**
 * What is decided about a file of the plan.
 *
 * `left`: it is not as in the snapshot, and stays so: a policy keeps what is there, or it cannot be restored.
 * `planned`: not decided yet. `same`: it is as it should be already. `tidied`: only its metadata. `whole`: made by the
 * thread that opens its one blob. `pieces`: made before its first blob is written, finished after the last. `link`:
 * another name of a file that is restored first.
 */
const fileStates = ['left', 'planned', 'same', 'tidied', 'whole', 'pieces', 'link'] as const
export type FileState = (typeof fileStates)[number]

export interface PlannedFiles {
  readonly size: number
  add(node: FileNode, directory: number): number
  directory(file: number): number
  nameBytes(file: number): Uint8Array
  nameLength(file: number): number
  /** Writes the name's bytes; returns where they end. */
  copyName(file: number, target: Uint8Array, at: number): number
  name(file: number): string
  permissions(file: number): number
  uid(file: number): number
  gid(file: number): number
  bytes(file: number): number
  mtime(file: number): bigint
  atime(file: number): bigint
  state(file: number): FileState
  setState(file: number, state: FileState): void
  /** Blobs of the content, in order. */
  content(file: number): Uint32Array
  appendContent(blobs: readonly number[]): void
  /** Blobs that are still to be written. */
  left(file: number): number
  setLeft(file: number, left: number): void
}

/** Directory, end of name, permissions, uid, gid, bytes, end of content, state, blobs left. */
const fields = 9
const first = 1024

export function createPlannedFiles(): PlannedFiles {
  let numbers = new Float64Array(first * fields)
  let times = new BigInt64Array(first * 2)
  let names: Uint8Array = new Uint8Array(first * 16)
  let contents = new Uint32Array(first)
  let size = 0
  let nameEnd = 0
  let contentEnd = 0
  const get = (file: number, field: number) => (file < 0 ? 0 : (numbers[file * fields + field] ?? 0))
  const set = (file: number, field: number, value: number) => {
    numbers[file * fields + field] = value
  }
  const nameBytes = (file: number) => names.subarray(get(file - 1, 1), get(file, 1))
  return {
    get size() {
      return size
    },
    add(node, directory) {
      const file = size
      size += 1
      numbers = grown(numbers, size * fields)
      times = grown(times, size * 2)
      const name = bytesFromName(node.name)
      names = grown(names, nameEnd + name.length)
      names.set(name, nameEnd)
      nameEnd += name.length
      const row = file * fields
      numbers[row] = directory
      numbers[row + 1] = nameEnd
      numbers[row + 2] = node.permissions
      numbers[row + 3] = node.uid
      numbers[row + 4] = node.gid
      numbers[row + 5] = node.bytes
      numbers[row + 6] = contentEnd
      times[file * 2] = node.mtime
      times[file * 2 + 1] = node.atime
      return file
    },
    directory: (file) => get(file, 0),
    nameBytes,
    nameLength: (file) => get(file, 1) - get(file - 1, 1),
    copyName(file, target, at) {
      let end = at
      // Names are short: a view of one costs more than its bytes.
      for (let from = get(file - 1, 1), to = get(file, 1); from < to; from += 1, end += 1)
        target[end] = names[from] ?? 0
      return end
    },
    name: (file) => nameFromBytes(nameBytes(file)),
    permissions: (file) => get(file, 2),
    uid: (file) => get(file, 3),
    gid: (file) => get(file, 4),
    bytes: (file) => get(file, 5),
    mtime: (file) => times[file * 2] ?? 0n,
    atime: (file) => times[file * 2 + 1] ?? 0n,
    state: (file) => fileStates[get(file, 7)] ?? 'left',
    setState: (file, state) => set(file, 7, fileStates.indexOf(state)),
    content: (file) => contents.subarray(get(file - 1, 6), get(file, 6)),
    appendContent(blobs) {
      contents = grown(contents, contentEnd + blobs.length)
      contents.set(blobs, contentEnd)
      contentEnd += blobs.length
      set(size - 1, 6, contentEnd)
    },
    left: (file) => get(file, 8),
    setLeft: (file, left) => set(file, 8, left),
  }
}
