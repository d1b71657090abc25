/**
 * Owns reading content, of streams and of open files, into windows of shared memory, where it is cut, hashed and sealed.
 *
 * Memory: a stream has two windows of up to 8 MiB; all files of a save share a few. Who reads faster than can be sealed
 * and stored waits.
 */
import { untilAborted } from '../chunk/abortable.ts'
import { type Chunking, chunkBytesMax } from '../chunk/cutter.ts'
import { type BlobId, blobId } from '../format/ids.ts'
import type { Vault } from '../vault.ts'
import { createSlabs, type Slab, type Slabs } from '../work/slabs.ts'
import type { BlobSink, WindowBlob } from './blob-sink.ts'
import type { CutChunks } from './cut-chunks.ts'

export interface SavedContent {
  readonly content: readonly BlobId[]
  readonly bytes: number
}

export interface SaveStreamOptions {
  /** Default: by content. */
  readonly chunking?: Chunking
  /** Called with the bytes that have been read so far. */
  readonly onProgress?: (progress: { readonly bytes: number }) => void
  readonly signal?: AbortSignal
}

export interface SaveFileOptions extends SaveStreamOptions {
  /** Length of the file, as far as it is known. */
  readonly bytes: number
}

export interface ContentSaver {
  saveStream(
    source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    options?: SaveStreamOptions,
  ): Promise<SavedContent>
  /** Saves what an open file holds; the descriptor is not used any more when this settles. */
  saveFile(descriptor: number, options: SaveFileOptions): Promise<SavedContent>
  /** Memory into which files are read. */
  readonly windows: Slabs
}

interface Setting {
  readonly vault: Vault
  readonly sink: BlobSink
  readonly lockSignal: AbortSignal
}

/** No chunk is longer. */
const windowBytes = chunkBytesMax
const windowBytesFirst = 64 << 10

export function createContentSaver(setting: Setting): ContentSaver {
  const windows = createSlabs({ slabBytes: windowBytes, slabsMax: Math.max(2, setting.vault.work.threads + 1) })
  // Streams wait for others, even for one another: what one holds must not keep another from going on.
  const streamWindows = createSlabs({ slabBytes: windowBytes, slabsMax: Number.POSITIVE_INFINITY })
  const begin = (options: SaveStreamOptions): Saving => {
    const { lockSignal } = setting
    const signal = options.signal === undefined ? lockSignal : AbortSignal.any([lockSignal, options.signal])
    return { ...setting, options, signal, content: [], bytes: 0, sealing: createSealing() }
  }
  return {
    windows,
    saveStream: (source, options = {}) => readStream(begin(options), streamWindows, source),
    saveFile: (descriptor, options) => readFile(begin(options), windows, { descriptor, bytes: options.bytes }),
  }
}

interface Saving extends Setting {
  readonly options: SaveStreamOptions
  readonly signal: AbortSignal
  readonly content: BlobId[]
  bytes: number
  readonly sealing: Sealing
}

interface Sealing {
  add(work: Promise<void>): void
  throwIfFailed(): void
  /** Resolves when no memory is in use any more. */
  ended(): Promise<void>
}

function createSealing(): Sealing {
  const pending = new Set<Promise<void>>()
  let failed: { readonly error: unknown } | undefined
  return {
    add(work) {
      const noted: Promise<void> = work
        .catch((error: unknown) => {
          failed ??= { error }
        })
        .finally(() => pending.delete(noted))
      pending.add(noted)
    },
    throwIfFailed() {
      if (failed !== undefined) throw failed.error
    },
    async ended() {
      await Promise.all(pending)
    },
  }
}

/** Notes the chunks of a window and has them sealed; returns how much of the window they are. */
function take(saving: Saving, chunks: CutChunks, window: Uint8Array, release: () => void): number {
  const blobs = chunks.ends.map((end, at): WindowBlob => {
    const offset = chunks.ends[at - 1] ?? 0
    return { id: chunks.ids[at] ?? '', offset, length: end - offset }
  })
  for (const { id } of blobs) saving.content.push(blobId(id))
  const bytes = chunks.ends.at(-1) ?? 0
  saving.bytes += bytes
  saving.sealing.add(saving.sink.putAll(window, blobs).finally(release))
  saving.options.onProgress?.({ bytes: saving.bytes })
  return bytes
}

const chunkingOf = (saving: Saving): Chunking => saving.options.chunking ?? { kind: 'content' }

async function readFile(
  saving: Saving,
  windows: Slabs,
  file: { readonly descriptor: number; readonly bytes: number },
): Promise<SavedContent> {
  const { descriptor } = file
  try {
    for (let position = 0, atEnd = false; !atEnd; ) {
      const slab = await windows.take(saving.signal)
      const input = { descriptor, position, window: slab.bytes, chunking: chunkingOf(saving) }
      const bytes = Math.min(windowBytes, Math.max(0, file.bytes - position))
      let isTaken = false
      try {
        const chunks = await saving.vault.work.run('readChunks', input, { bytes, signal: saving.signal })
        if (chunks.ends.length > 0) {
          isTaken = true
          position += take(saving, chunks, slab.bytes, slab.release)
        }
        atEnd = chunks.atEnd
      } finally {
        if (!isTaken) slab.release()
      }
      saving.sealing.throwIfFailed()
    }
  } finally {
    await saving.sealing.ended()
  }
  saving.sealing.throwIfFailed()
  return { content: saving.content, bytes: saving.bytes }
}

/** Memory that a stream fills: a little at first, then a whole window. */
interface StreamWindow {
  readonly bytes: Buffer
  readonly slab: Slab | undefined
}

async function readStream(
  saving: Saving,
  windows: Slabs,
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<SavedContent> {
  let window: StreamWindow = { bytes: Buffer.from(new SharedArrayBuffer(windowBytesFirst)), slab: undefined }
  let filled = 0
  let before: Promise<void> = Promise.resolve()

  async function cut(atEnd: boolean): Promise<void> {
    const full = window
    const input = { window: full.bytes.subarray(0, filled), chunking: chunkingOf(saving), atEnd }
    const chunks = await saving.vault.work.run('cutChunks', input, { bytes: filled, signal: saving.signal })
    // Two windows at a time: the one before must be free.
    await before
    saving.sealing.throwIfFailed()
    const sealed = Promise.withResolvers<void>()
    before = sealed.promise
    const taken = chunks.ends.at(-1) ?? 0
    if (!atEnd) window = await widerWindow(windows, full.bytes.subarray(taken, filled))
    filled -= taken
    take(saving, chunks, full.bytes, () => {
      full.slab?.release()
      sealed.resolve()
    })
  }

  try {
    for await (const piece of untilAborted(source, saving.signal)) {
      for (let taken = 0; taken < piece.length; ) {
        const part = piece.subarray(taken, taken + window.bytes.length - filled)
        window.bytes.set(part, filled)
        filled += part.length
        taken += part.length
        if (filled < window.bytes.length) continue
        if (filled === windowBytes) await cut(false)
        else window = await widerWindow(windows, window.bytes)
      }
    }
    await cut(true)
  } finally {
    await saving.sealing.ended()
  }
  saving.sealing.throwIfFailed()
  return { content: saving.content, bytes: saving.bytes }
}

/** A whole window that begins with these bytes. */
async function widerWindow(windows: Slabs, bytes: Uint8Array): Promise<StreamWindow> {
  const slab = await windows.take()
  slab.bytes.set(bytes)
  return { bytes: slab.bytes, slab }
}
