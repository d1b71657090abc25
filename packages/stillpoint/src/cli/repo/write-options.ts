/** How what is written is packed, by restic's options and environment: compression and the size of packs. */
import { availableParallelism } from 'node:os'
import { Failure } from '@stillpoint/core/kernel'
import type { CompressionMode } from '@stillpoint/repository'
import { InvalidArgumentError, Option } from 'commander'
import { count } from './arguments.ts'

export interface WriteOptions {
  readonly compression?: CompressionMode
  /** MiB. */
  readonly packSize?: number
  /** False with `--no-extra-verify`. */
  readonly extraVerify?: boolean
}

const modes: readonly CompressionMode[] = ['auto', 'off', 'fastest', 'better', 'max']
const packMiBDefault = 16

export const writeOptions = (): readonly Option[] => [
  new Option('--compression <mode>', 'how hard to compress; default: $RESTIC_COMPRESSION, or auto').choices(modes),
  new Option('--pack-size <MiB>', 'size of packs, 4 to 128; default: $RESTIC_PACK_SIZE, or 16').argParser(packSize),
  new Option('--no-extra-verify', 'do not read back what is stored before it is: docs/repo.md'),
]

/** For `openRepository`. An empty variable, and a size of 0, say nothing, as with restic. @throws Failure `usage` */
export function writeSettingsOf(options: WriteOptions): {
  readonly compression: CompressionMode
  readonly packBytes: number
  readonly selfCheck: boolean
} {
  const compression = options.compression ?? fromEnvironment('RESTIC_COMPRESSION', compressionMode) ?? 'auto'
  const packMiB = options.packSize ?? fromEnvironment('RESTIC_PACK_SIZE', packSize) ?? packMiBDefault
  const packBytes = (packMiB === 0 ? packMiBDefault : packMiB) << 20
  return { compression, packBytes, selfCheck: options.extraVerify !== false }
}

function compressionMode(text: string): CompressionMode {
  const mode = modes.find((known) => known === text)
  if (mode !== undefined) return mode
  throw new InvalidArgumentError(`Give ${modes.join(', ')}.`)
}

function packSize(text: string): number {
  const mib = count(text)
  if (mib === 0 || (mib >= 4 && mib <= 128)) return mib
  throw new InvalidArgumentError('Give a number of MiB from 4 to 128.')
}

const readersMax = 256

export const readConcurrencyOption = () =>
  new Option('--read-concurrency <n>', 'read so many files at once; default: $RESTIC_READ_CONCURRENCY').argParser(
    readers,
  )

function readers(text: string): number {
  const n = count(text)
  if (n >= 1 && n <= readersMax) return n
  throw new InvalidArgumentError(`Give a number from 1 to ${readersMax}.`)
}

/**
 * Files are read by the threads that hash and compress: for more files at once there are more threads. There are never
 * fewer than processors, since a thread that does not read still seals.
 */
export function threadsFor(readConcurrency: number | undefined): number | undefined {
  const n = readConcurrency ?? fromEnvironment('RESTIC_READ_CONCURRENCY', readers)
  return n === undefined ? undefined : Math.max(n, availableParallelism())
}

function fromEnvironment<T>(name: string, parse: (text: string) => T): T | undefined {
  const { [name]: text } = process.env
  if (text === undefined || text === '') return undefined
  try {
    return parse(text)
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error
    throw new Failure({ code: 'usage', message: `${name}=${JSON.stringify(text)}: ${error.message}` })
  }
}
