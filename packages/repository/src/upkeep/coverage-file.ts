/**
 * Owns the file that remembers when each pack of a repository was last read in full: a line per pack, `ID SECONDS`.
 * Lost or damaged it costs reading again, and nothing else.
 *
 * Invariants: 1. the file is replaced as a whole, after its content is on disk: a crash leaves the old one or the new
 * one. 2. A line that is not understood, or a time in the future, counts as never read.
 */
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Clock } from '@stillpoint/core/kernel'
import { errnoOf, storageFailure } from '../blob/storage-failure.ts'
import type { ReadTimes } from './read-coverage.ts'

export interface CoverageStore {
  load(): Promise<ReadTimes>
  /** Replaces what is there. */
  save(times: ReadonlyMap<string, number>): Promise<void>
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
    async load() {
      const text = await readFile(path, 'utf8').catch((error: unknown) => {
        if (errnoOf(error) === 'ENOENT') return ''
        throw storageFailure(error, 'reading', path)
      })
      return parseTimes(text, clock.wallMs())
    },
    async save(times) {
      const lines = [...times].map(([name, readMs]) => `${name} ${Math.floor(readMs / 1000)}\n`)
      try {
        await mkdir(dirname(path), { recursive: true, mode: 0o700 })
        await replaceFile(path, `${firstLine}\n${lines.join('')}`)
      } catch (error) {
        throw storageFailure(error, 'writing', path)
      }
    },
  }
}

function parseTimes(text: string, nowMs: number): ReadTimes {
  const times: ReadTimes = new Map()
  const [first, ...lines] = text.split('\n')
  if (first !== firstLine) return times
  for (const line of lines) {
    const [, name, seconds] = /^([0-9a-f]{64}) (\d{1,12})$/.exec(line) ?? []
    const readMs = Number(seconds) * 1000
    if (name !== undefined && readMs <= nowMs + futureMsMax) times.set(name, readMs)
  }
  return times
}

async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`
  const file = await open(temporary, 'w', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
}
