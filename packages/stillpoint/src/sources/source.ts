/**
 * What a source is: the driver for one kind of store. It drives the store from outside, through the store's own means.
 *
 * Owns: the vocabulary between agent and source. Does not own: the order of the calls, which is the cut protocol's
 * (core/cut/store.ts), nor where captured bytes go, which is the sink's.
 *
 * Rules that every source keeps, and that the conformance suite checks:
 * - S1 After `quiesce` answered and until `resume`, no write to the store is acknowledged to anybody, and reads go on.
 * - S2 The store itself ends the hold at its lease, whatever becomes of this process (C5).
 * - S3 `mark` takes time independent of the data's size, and what `capture` reads is the state at the mark, whatever is
 *   written meanwhile.
 * - S4 Every call is idempotent for its cut. `resume` and `release` are safe when the call they undo never answered.
 * - S5 A cancelled call leaves nothing behind that `resume`, `release` and `close` do not remove.
 * - S6 `restore` refuses a target that is not empty, unless it is to be replaced; then the old state is kept until the
 *   new one is in place, where the store allows it.
 */
import type { Clock, CutId } from '@stillpoint/core/kernel'

export interface SourceEnvironment {
  readonly clock: Clock
  /** Directory of `stillpoint.yaml`: relative paths in options start there. */
  readonly baseDir: string
  /** A private directory (0700) for files of this participant that outlive no cut. Made by the agent, removed by it. */
  readonly scratchDir: string
  /** What a user should read while the work goes on; never secrets. */
  readonly note: (text: string) => void
}

/** How a source is registered. `options` have been validated by the source's own schema (config/schema.ts). */
export interface Source<Options> {
  readonly kind: string
  /**
   * Connects and checks credentials, version, privileges and tools.
   * @throws Failure `store_unreachable` | `store_refused_password` | `store_version_unsupported` | `store_privilege_missing`
   *   | `tool_missing` | `options_invalid`
   */
  open(options: Options, env: SourceEnvironment, signal: AbortSignal): Promise<SourceSession>
}

/** What the store can hold and pin: decides the grade that a plan may promise. */
export interface SourceTraits {
  /** `writes`: `quiesce` holds writers. `none`: nobody can be held; the mark alone is exact, or not. */
  readonly hold: 'writes' | 'none'
  /** `exact`: the mark is the store's state at one instant, by itself. `scan`: it is exact only while nobody writes. */
  readonly mark: 'exact' | 'scan'
}

export interface Readiness {
  /** What the store holds now, in bytes, as far as it can tell cheaply. */
  readonly estimateBytes: number
  /** The store's product and version: `PostgreSQL 15.18`. */
  readonly version: string
  /** What a user should know before the cut: tables without keys, a path on a network disk. */
  readonly notes: readonly string[]
}

export interface Hold {
  readonly cut: CutId
  /** When the store will have ended the hold by itself, by this process's monotonic clock. */
  readonly endsAtMs: number
}

export interface HoldReport {
  /** True only if the store was held without a break from the answer of `quiesce` until the call of `resume`. */
  readonly unbroken: boolean
  /** Why not, in words. */
  readonly detail?: string
}

export interface Mark {
  readonly cut: CutId
  /** Where in the store's own history this is: LSN, replication offset, file count and digest … Strings and numbers only. */
  readonly position: Readonly<Record<string, string | number>>
  /** What limits the evidence: `the directory changed between two scans`. Empty when the mark is exact. */
  readonly caveats: readonly string[]
}

export interface CaptureReport {
  readonly bytes: number
  readonly files: number
  /** Parts that are not, or may not be, as they were at the mark, by name. Not empty: the participant is not consistent. */
  readonly torn: readonly string[]
  readonly notes: readonly string[]
}

export interface CaptureProgress {
  readonly bytes: number
  readonly files: number
}

export type Chunking = { readonly kind: 'content' } | { readonly kind: 'pages'; readonly pageBytes: number }

/** What a scan knows of one entry; `saveDirectory` reports every entry that is no longer like this. */
export interface EntryStamp {
  readonly type: 'file' | 'directory' | 'symlink' | 'other'
  readonly bytes: number
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
  readonly inode: bigint
}

/** Relative path (`/` between parts, `''` is the directory itself) to what was there at the mark. */
export type DirectoryManifest = ReadonlyMap<string, EntryStamp>

/** Where a capture puts its parts. Names obey `participantName`. A part is durable only when the cut is sealed. */
export interface CaptureSink {
  file(
    name: string,
    content: AsyncIterable<Uint8Array>,
    options?: { readonly chunking?: Chunking },
  ): Promise<{ bytes: number }>
  /**
   * Stores a directory. With a manifest: exactly its entries; what differs or is gone is answered in `torn`. `linked`:
   * its files are hard links whose other names come and go, so that their ctime tells nothing.
   */
  directory(
    name: string,
    path: string,
    options: {
      readonly manifest?: DirectoryManifest
      readonly exclude?: (relativePath: string) => boolean
      readonly linked?: boolean
    },
  ): Promise<{ bytes: number; files: number; torn: readonly string[] }>
}

/** The parts of one participant in a snapshot. */
export interface Parts {
  names(): readonly string[]
  /** @throws Failure `part_missing` */
  file(name: string, signal: AbortSignal): AsyncIterable<Uint8Array>
  /** Writes a stored directory below `target` (which exists and is empty), path-safe. */
  directory(name: string, target: string, signal: AbortSignal): Promise<{ bytes: number; files: number }>
  /** The stored entries of a directory: relative path to size in bytes and SHA-256 over content (files only). */
  entries(
    name: string,
    signal: AbortSignal,
  ): AsyncIterable<{ path: string; type: string; bytes: number; sha256?: string }>
}

export interface RestoreOptions {
  /** Replace what is there. Without it, a target that is not empty is refused: Failure `target_not_empty`. */
  readonly replace: boolean
}

export interface RestoreReport {
  readonly bytes: number
  readonly notes: readonly string[]
}

export interface VerifyReport {
  /** Each check by name, with what was expected and found. */
  readonly checks: readonly { readonly name: string; readonly passed: boolean; readonly detail: string }[]
}

export interface SourceSession {
  readonly traits: SourceTraits
  /** What the mark will need: connections made, space, tools. Nothing is held. */
  prepare(cut: CutId, signal: AbortSignal): Promise<Readiness>
  /**
   * Holds writes. The store itself ends the hold after `leaseMs` (S2).
   * @throws Failure `hold_unavailable` (retry `later`) when the hold cannot be had within the lease
   */
  quiesce(cut: CutId, leaseMs: number, signal: AbortSignal): Promise<Hold>
  mark(cut: CutId, signal: AbortSignal): Promise<Mark>
  resume(cut: CutId): Promise<HoldReport>
  capture(cut: CutId, sink: CaptureSink, signal: AbortSignal): Promise<CaptureReport>
  release(cut: CutId): Promise<void>
  /** Whether a restore could start now: reachable, version fits, empty or to be replaced. Changes nothing. */
  checkTarget(parts: Parts, options: RestoreOptions, signal: AbortSignal): Promise<void>
  restore(parts: Parts, options: RestoreOptions, signal: AbortSignal): Promise<RestoreReport>
  /** Compares the target, as it is now, with the stored parts: counts, checksums, constraints. */
  verify(parts: Parts, signal: AbortSignal): Promise<VerifyReport>
  /** Ends every hold and mark that is left, then the connections. Idempotent. */
  close(): Promise<void>
}
