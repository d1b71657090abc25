/** Owns the tasks that find chunks: in memory that is filled, and in a file. A chunk's id is its SHA-256. */
import { readSync } from 'node:fs'
import { type Chunking, createCutter } from '../chunk/cutter.ts'
import { sha256 } from '../format/ids.ts'
import type { TaskContext } from '../work/tasks.ts'

export interface CutChunksInput {
  /** Shared memory, filled; it begins at a cut. No chunk is longer than it. */
  readonly window: Uint8Array
  readonly chunking: Chunking
  /** Nothing follows: what is left is the last chunk. */
  readonly atEnd: boolean
}

export interface CutChunks {
  /** Where chunks end; the first one begins at 0. */
  readonly ends: readonly number[]
  readonly ids: readonly string[]
}

export function cutChunks({ window, chunking, atEnd }: CutChunksInput, { gear }: TaskContext): CutChunks {
  const cutter = createCutter(chunking, gear)
  const ends: number[] = []
  const ids: string[] = []
  let start = 0
  // Each is hashed when it is found: it is still in the processor's cache.
  const found = (end: number) => {
    ids.push(sha256(window.subarray(start, end)))
    ends.push(end)
    start = end
  }
  for (;;) {
    const rest = window.subarray(start)
    const length = cutter.cut(rest, rest.length)
    if (length === 0) break
    found(start + length)
  }
  if (atEnd && start < window.length) found(window.length)
  return { ends, ids }
}

export interface ReadChunksInput extends Pick<CutChunksInput, 'window' | 'chunking'> {
  /** Of this process; open until the task has ended. */
  readonly descriptor: number
  /** Where in the file a chunk begins. */
  readonly position: number
}

export interface ReadChunks extends CutChunks {
  /** The last chunk is the last of the file. */
  readonly atEnd: boolean
}

/** Fills the window from the file. @throws errors of the operating system */
export function readChunks(input: ReadChunksInput, context: TaskContext): ReadChunks {
  const { window, chunking, descriptor, position } = input
  let filled = 0
  while (filled < window.length) {
    const bytes = readSync(descriptor, window, filled, window.length - filled, position + filled)
    if (bytes === 0) break
    filled += bytes
  }
  const atEnd = filled < window.length
  return { ...cutChunks({ window: window.subarray(0, filled), chunking, atEnd }, context), atEnd }
}
