/**
 * Owns what cannot be avoided: each byte of new data is hashed, compressed, encrypted and authenticated, and each byte of
 * a pack is hashed for its name. Measured alone, on one core, on blobs of the size that is saved.
 */
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { dataLevel } from '../../packages/repository/src/format/compression.ts'
import { keysFromBytes, sealInto, sealOverheadBytes } from '../../packages/repository/src/format/crypto.ts'
import { sha256 } from '../../packages/repository/src/format/ids.ts'
import { createScratch } from '../../packages/repository/src/format/scratch.ts'
import { compressIn } from '../../packages/repository/src/format/zstd.ts'

export interface Stages {
  /** Milliseconds of one core per MiB of source. */
  readonly hashMs: number
  /** 0 where nothing compresses: a probe tells. */
  readonly compressMs: number
  readonly sealMs: number
  readonly packHashMs: number
}

const blobBytes = 1 << 20
const sampleBytesMax = 128 << 20

/** Blobs of a data set as a save would cut them, roughly: whole files up to 1 MiB, pieces of 1 MiB of longer ones. */
function sampleOf(directory: string): Buffer[] {
  const blobs: Buffer[] = []
  let bytes = 0
  for (const entry of readdirSync(directory, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile() || bytes >= sampleBytesMax) continue
    const content = readFileSync(join(entry.parentPath, entry.name))
    for (let from = 0; from < content.length; from += blobBytes) blobs.push(content.subarray(from, from + blobBytes))
    bytes += content.length
  }
  return blobs
}

/** The best of three rounds, per MiB of source. */
function msPerMebibyte(sourceBytes: number, blobs: readonly Buffer[], stage: (blob: Buffer) => unknown): number {
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < 3; round += 1) {
    const start = process.hrtime.bigint()
    for (const blob of blobs) stage(blob)
    best = Math.min(best, Number(process.hrtime.bigint() - start) / 1e6)
  }
  return best / (sourceBytes / (1 << 20))
}

export function measureStages(directory: string): Stages {
  const blobs = sampleOf(directory)
  const bytes = blobs.reduce((sum, blob) => sum + blob.length, 0)
  const keys = keysFromBytes(randomBytes(64))
  const iv = randomBytes(16)
  // Memory and contexts are kept, as the engine keeps them.
  const memory = createScratch()
  const compress = (blob: Uint8Array) => compressIn(memory, blob, dataLevel)
  const seal = (plaintext: Uint8Array) =>
    sealInto({ keys, plaintext, iv, target: memory.of(plaintext.length + sealOverheadBytes) })
  const packed = blobs.map((blob) => {
    const compressed = compress(blob)
    return compressed.length < blob.length ? Buffer.from(compressed) : blob
  })
  const packedBytes = packed.reduce((sum, blob) => sum + blob.length, 0)
  const compresses = packedBytes < bytes * 0.98
  return {
    hashMs: msPerMebibyte(bytes, blobs, sha256),
    compressMs: compresses ? msPerMebibyte(bytes, blobs, compress) : 0,
    sealMs: msPerMebibyte(bytes, packed, seal),
    packHashMs: msPerMebibyte(bytes, packed, sha256),
  }
}

/** Seconds of one core for so many bytes. */
export function unavoidableSeconds(stages: Stages, bytes: number): number {
  const { hashMs, compressMs, sealMs, packHashMs } = stages
  return ((hashMs + compressMs + sealMs + packHashMs) * (bytes / (1 << 20))) / 1000
}
