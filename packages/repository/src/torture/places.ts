/** Owns directories for tests that write thousands of small files: in memory where the system has such a place. */
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const inMemory = '/dev/shm'

export interface ScratchPlace extends AsyncDisposable {
  readonly path: string
}

export async function fastScratch(): Promise<ScratchPlace> {
  const path = await mkdtemp(join(existsSync(inMemory) ? inMemory : tmpdir(), 'stillpoint-torture-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}
