/**
 * Takes in what processes upload for a running cut, straight into its save (server/ports.ts has the rules of the
 * streams).
 *
 * Owns: which parts and channels of which process are stored, and the tree over the parts. Does not own: HTTP, who may
 * upload (the server), nor what a channel's state must hold (the certificate; seal.ts compares).
 *
 * Invariants: every line of a channel's state is a `RecordedMessage`; no two of them have the same place in a session;
 * nothing is taken for a cut that is not open.
 */
import type { CaptureEvidence } from '@stillpoint/core'
import {
  assert,
  type ChannelId,
  type CutId,
  channelEnds,
  Failure,
  type ParticipantName,
  participantName,
  type TreeId,
} from '@stillpoint/core/kernel'
import type { Save, TreeEntry } from '@stillpoint/repository'
import { readRecordedMessages } from './recorded-messages.ts'
import { messagesFile, stateDir } from './snapshot-layout.ts'

/** What the state of one channel holds: `session#seq` to the message's id. */
export type ChannelContents = ReadonlyMap<string, string>

interface StoredChannel {
  readonly tree: TreeId
  readonly contents: ChannelContents
}

interface Upload {
  readonly parts: Map<string, { readonly entry: TreeEntry; readonly bytes: number }>
  readonly channels: Map<ChannelId, StoredChannel>
  evidence: Promise<CaptureEvidence> | undefined
}

interface OpenCut {
  readonly save: Save
  readonly signal: AbortSignal
  readonly uploads: ReadonlyMap<ParticipantName, Upload>
}

export interface CutUploads {
  /** What was stored of each channel, by its id. */
  channels(): ReadonlyMap<string, ChannelContents>
  /** From now on nothing is taken for this cut. */
  close(): void
}

export class ProcessCaptures {
  readonly #cuts = new Map<CutId, OpenCut>()

  /** Uploads of these processes are taken for this cut, until it is closed or the signal aborts. */
  openCut(
    cut: CutId,
    options: { readonly save: Save; readonly signal: AbortSignal; readonly processes: readonly ParticipantName[] },
  ): CutUploads {
    const { save, signal, processes } = options
    assert(!this.#cuts.has(cut), `the cut ${cut} is open already`)
    const newUpload = (): Upload => ({ parts: new Map(), channels: new Map(), evidence: undefined })
    const uploads = new Map(processes.map((name) => [name, newUpload()]))
    this.#cuts.set(cut, { save, signal, uploads })
    return {
      channels: () => {
        const stored = new Map<string, ChannelContents>()
        for (const { channels } of uploads.values()) {
          for (const [channel, { contents }] of channels) stored.set(channel, contents)
        }
        return stored
      },
      close: () => {
        this.#cuts.delete(cut)
      },
    }
  }

  /** @throws Failure `cut_unknown`, `name_invalid`, `capture_finished` */
  async putState(
    cut: CutId,
    participant: ParticipantName,
    part: string,
    stream: AsyncIterable<Uint8Array>,
  ): Promise<{ bytes: number }> {
    const { open, upload } = this.#find(cut, participant)
    participantName(part)
    const { content, bytes } = await open.save.saveStream(stream, { signal: open.signal })
    this.#stillOpen(upload, participant)
    upload.parts.set(part, { entry: { name: part, type: 'file', bytes, content }, bytes })
    return { bytes }
  }

  /** @throws Failure `cut_unknown`, `channel_invalid`, `recorded_message_invalid`, `capture_finished` */
  async putChannel(
    cut: CutId,
    participant: ParticipantName,
    channel: ChannelId,
    stream: AsyncIterable<Uint8Array>,
  ): Promise<{ bytes: number }> {
    const { open, upload } = this.#find(cut, participant)
    if (channelEnds(channel).to !== participant) {
      const message = `"${participant}" uploads the state of ${channel}, which is not a channel to it`
      throw new Failure({ code: 'channel_invalid', message })
    }
    const contents = new Map<string, string>()
    const lines = readRecordedMessages(stream, channel, ({ session, seq, message }) => {
      const place = `${session}#${seq}`
      if (contents.has(place)) {
        const text = `The state of ${channel} holds message ${seq} of session ${session} twice`
        throw new Failure({ code: 'recorded_message_invalid', message: text })
      }
      contents.set(place, message)
    })
    const { content, bytes } = await open.save.saveStream(lines, { signal: open.signal })
    const tree = await open.save.saveTree([{ name: messagesFile, type: 'file', bytes, content }])
    this.#stillOpen(upload, participant)
    upload.channels.set(channel, { tree, contents })
    return { bytes }
  }

  /** The same answer when asked again. @throws Failure `cut_unknown` */
  async finish(cut: CutId, participant: ParticipantName): Promise<CaptureEvidence> {
    const { open, upload } = this.#find(cut, participant)
    upload.evidence ??= finishUpload(open.save, upload)
    return upload.evidence
  }

  #find(cut: CutId, participant: ParticipantName): { open: OpenCut; upload: Upload } {
    const open = this.#cuts.get(cut)
    const upload = open?.uploads.get(participant)
    if (open === undefined || upload === undefined) {
      throw new Failure({
        code: 'cut_unknown',
        message: `Nothing is captured from "${participant}" for the cut ${cut}`,
        hint: 'The cut is over. The next one will ask again.',
      })
    }
    open.signal.throwIfAborted()
    return { open, upload }
  }

  /** A part that comes after `finish` would be in no tree, and its sender would not know. */
  #stillOpen(upload: Upload, participant: ParticipantName): void {
    if (upload.evidence === undefined) return
    const message = `"${participant}" has finished its capture already`
    throw new Failure({ code: 'capture_finished', message })
  }
}

async function finishUpload(save: Save, upload: Upload): Promise<CaptureEvidence> {
  const parts = [...upload.parts.values()]
  const state = await save.saveTree(parts.map(({ entry }) => entry))
  const tree = await save.saveTree([{ name: stateDir, type: 'dir', subtree: state }])
  return {
    tree,
    bytes: parts.reduce((sum, { bytes }) => sum + bytes, 0),
    files: parts.length,
    torn: [],
    notes: [],
    channels: Object.fromEntries([...upload.channels].map(([channel, stored]) => [channel, stored.tree])),
  }
}
