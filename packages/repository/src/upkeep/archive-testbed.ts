/** Owns what the tests of archives share: what comes before a failure, and data that is damaged in its repository. */
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'

/** What was written before it failed, as it is in a file that `dump` was redirected to. */
export async function collectedUntilFailure(
  pieces: AsyncIterable<Uint8Array>,
): Promise<{ readonly bytes: Buffer; readonly error: Error | undefined }> {
  const all: Uint8Array[] = []
  try {
    for await (const piece of pieces) all.push(piece)
    return { bytes: Buffer.concat(all), error: undefined }
  } catch (error) {
    if (!(error instanceof Error)) throw error
    return { bytes: Buffer.concat(all), error }
  }
}

/** Flips a bit in the middle of every pack that is as large as only packs of data are here. */
export async function damageData(repository: string): Promise<void> {
  const folder = join(repository, 'data')
  let damaged = 0
  for (const name of await readdir(folder, { recursive: true })) {
    await using file = await open(join(folder, name), 'r+').catch(unlessDirectory)
    if (file === undefined) continue
    const { size } = await file.stat()
    if (size < 1 << 20) continue
    const byte = Buffer.alloc(1)
    await file.read(byte, 0, 1, size >> 1)
    byte[0] = (byte[0] ?? 0) ^ 1
    await file.write(byte, 0, 1, size >> 1)
    damaged += 1
  }
  if (damaged === 0) throw new Error(`${folder} has no pack of data`)
}

function unlessDirectory(error: unknown): undefined {
  if (!(error instanceof Error && 'code' in error && error.code === 'EISDIR')) throw error
}
