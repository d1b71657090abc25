/**
 * What the server needs from the rest of the program, and nothing of how it is done: the operations, the catalog, and
 * the two ends of the bulk data of processes.
 *
 * Rules for whoever implements `ProcessCaptures` and `ProcessRestores` (agent/):
 * - Names have passed `participantName` and `channelEnds` before they come here, and the participant has an open
 *   session that takes part in this cut. What the streams contain has not been looked at.
 * - A stream that ends early (connection lost, session over, cut released, server closing) throws while it is read.
 *   It never ends as if it were complete.
 * - Bytes are taken from the stream as fast as they can be stored and no faster: that is the only backpressure.
 */
import type { CaptureEvidence, RestoreContents } from '@stillpoint/core'
import type { ChannelId, Clock, CutId, Entropy, ParticipantName, Random } from '@stillpoint/core/kernel'
import type { Catalog } from '../catalog/catalog.ts'
import type { SystemConfig } from '../config/system-config.ts'
import type { Operations } from '../coordinator/operations.ts'
import type { ProcessDirectory } from '../coordinator/process-directory.ts'

export type ByteStream = AsyncIterable<Uint8Array>

export interface StoredUpload {
  /** Bytes taken from the stream. */
  readonly bytes: number
}

/** Takes in what processes upload for a running cut, straight to the repository. */
export interface ProcessCaptures {
  /** Stores one part of the process's state. The same part again replaces what the first one stored. */
  putState(cut: CutId, participant: ParticipantName, part: string, stream: ByteStream): Promise<StoredUpload>
  /** One `RecordedMessage` as JSON per line. The implementation checks every line. */
  putChannel(cut: CutId, participant: ParticipantName, channel: ChannelId, stream: ByteStream): Promise<StoredUpload>
  /** All parts and channels are there: stores the participant's tree. The same answer when asked again. */
  finish(cut: CutId, participant: ParticipantName): Promise<CaptureEvidence>
}

/** Reads back what a process is to be restored from. */
export interface ProcessRestores {
  /** @throws Failure `restore_unknown` */
  contents(restore: string, participant: ParticipantName): Promise<RestoreContents>
  /** @throws Failure `restore_unknown`, `part_absent` */
  readState(restore: string, participant: ParticipantName, part: string): Promise<ByteStream>
  /** @throws Failure `restore_unknown`, `channel_absent` */
  readChannel(restore: string, participant: ParticipantName, channel: ChannelId): Promise<ByteStream>
}

/** One system at work, as the factory hands it to the server. */
export interface ServedSystem {
  /** The server closes them when it ends. */
  readonly operations: Operations
  /** Read and raised by the sessions, and kept by the schedule. Whoever made it closes it, in `operations.close()`. */
  readonly catalog: Catalog
  readonly captures: ProcessCaptures
  readonly restores: ProcessRestores
}

export interface OperationsContext {
  readonly config: SystemConfig
  readonly clock: Clock
  readonly random: Random
  readonly entropy: Entropy
  /** The processes that are connected to this server. Empty until the server listens. */
  readonly processes: ProcessDirectory
}

export type OperationsFactory = (context: OperationsContext) => Promise<ServedSystem>

export interface LogEntry {
  readonly level: 'info' | 'warn' | 'error'
  readonly message: string
  readonly [field: string]: unknown
}

/** Where the server writes what it does. Never a token, never a message's payload. */
export type Log = (entry: LogEntry) => void
