/**
 * Owns the file that remembers when each pack of a repository was last read in full: a line per pack, `ID SECONDS`.
 * Lost or damaged it costs reading again, and nothing else.
 *
 * Invariants: 1. the file is replaced as a whole, after its content is on disk: a crash leaves the old one or the new
 * one. 2. A line that is not understood, or a time in the future, counts as never read.
 */
import { mkdir, open, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Clock } from '@stillpoint/core/kernel'
import { errnoOf, storageFailure } from '../blob/storage-failure.ts'

export interface CoverageStore {
  /** Tells of each pack that was read: its id, and when, in milliseconds since 1970. */
  load(visit: (name: string, readMs: number) => void): Promise<void>
  /** Replaces what is there. */
  save(times: Iterable<readonly [name: string, readMs: number]>): Promise<void>
}

export interface CoverageFileOptions {
  /** Absolute path; its directory is made. */
  readonly path: string
  readonly clock: Clock
}

/** The first line, by which another version is told apart. */
const firstLine = 'stillpoint packs read 1'
/** A clock that is a little off is not the future. */
const futureMsMax = 24 * 3_600_000

export function openCoverageFile({ path, clock }: CoverageFileOptions): CoverageStore {
  return {
    async load(visit) {
      try {
        await readTimes(path, clock.wallMs(), visit)
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw storageFailure(error, 'reading', path)
      }
    },
    async save(times) {
      try {
        await mkdir(dirname(path), { recursive: true, mode: 0o700 })
        await replaceFile(path, linesOf(times))
      } catch (error) {
        throw storageFailure(error, 'writing', path)
      }
    },
  }
}

async function readTimes(path: string, nowMs: number, visit: (name: string, readMs: number) => void): Promise<void> {
  const file = await open(path)
  try {
    let isFirst = true
    for await (const line of file.readLines({ encoding: 'latin1', autoClose: false })) {
      if (isFirst && line !== firstLine) return
      isFirst = false
      const [, name, seconds] = /^([0-9a-f]{64}) (\d{1,12})$/.exec(line) ?? []
      const readMs = Number(seconds) * 1000
      if (name !== undefined && readMs <= nowMs + futureMsMax) visit(name, readMs)
    }
  } finally {
    await file.close()
  }
}

/** Some at a time: there may be a million. */
function* linesOf(times: Iterable<readonly [name: string, readMs: number]>): Generator<string> {
  let lines = `${firstLine}\n`
  for (const [name, readMs] of times) {
    lines += `${name} ${Math.floor(readMs / 1000)}\n`
    if (lines.length < writtenChars) continue
    yield lines
    lines = ''
  }
  yield lines
}

const writtenChars = 64 << 10

async function replaceFile(path: string, texts: Iterable<string>): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`
  const file = await open(temporary, 'w', 0o600)
  try {
    await file.writeFile(texts)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
}
