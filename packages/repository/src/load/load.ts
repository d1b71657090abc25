/** Owns what the parts of one restore share: the target, the policy, and what is told about each entry. */
import type { Failure } from '@stillpoint/core/kernel'
import type { SelectAttribute } from '../extended-attributes.ts'
import type { Turns } from '../turns.ts'
import type { Vault } from '../vault.ts'
import type { LinkedFiles } from './link-file.ts'
import type { PlannedDirectories } from './load-plan.ts'
import type { OpenDirectories } from './open-directories.ts'

/**
 * What becomes of files and other entries that are in the target already. The words are restic's.
 *
 * `always`: they get the content and metadata of the snapshot; content is compared, and only blobs that differ are read
 * and written. `if-changed`: the same, except that size and modification time are trusted instead of comparing content.
 * `if-newer`: those that are older than in the snapshot. `never`: none.
 */
export type Overwrite = 'always' | 'if-changed' | 'if-newer' | 'never'
export const overwrites: readonly Overwrite[] = ['always', 'if-changed', 'if-newer', 'never']

/** `updated`: of a file that was there, what differed was written. `kept`: the policy leaves what is there as it is. */
export type EntryOutcome = 'restored' | 'updated' | 'unchanged' | 'kept'

/** What was done about one entry of the tree: with a dry run, what would be. */
export interface LoadedEntry {
  /** `link`: a further name of a file. `other`: a symbolic link, a pipe, a device. */
  readonly kind: 'file' | 'link' | 'dir' | 'other'
  readonly outcome: EntryOutcome
  /** Of a file's content; 0 for all others. */
  readonly bytes: number
  /** Below the target. To be asked during the call only. Not a string: few ask, and there may be millions. */
  readonly path: () => string
}

export interface Owners {
  /** Ownership is restored by root only. */
  readonly canChange: boolean
  /** What belongs to nobody else yet belongs to them. */
  readonly uid: number
  readonly gid: number
}

export interface Load {
  readonly vault: Vault
  /** `refuse`: nothing may be there. */
  readonly overwrite: Overwrite | 'refuse'
  readonly isDryRun: boolean
  /** Which entries that the snapshot does not have are removed; undefined: none. */
  readonly removes: ((path: string) => boolean) | undefined
  /** Undefined: all. */
  readonly selectsAttribute: SelectAttribute | undefined
  readonly owners: Owners
  /** Permissions that a file does not get when it is made with them; all of them where that is not known. */
  readonly umask: number
  readonly signal: AbortSignal
  readonly directories: PlannedDirectories
  readonly open: OpenDirectories
  readonly linked: LinkedFiles
  readonly turns: Turns
  readonly abort: () => void
  /** Takes a failure of one path, and throws it where the first one ends all. */
  readonly problem: (path: string, failure: Failure) => void
  /** What cannot be restored by its nature. */
  readonly skip: (path: string, reason: string) => void
  /** Content that was written, or was there. */
  readonly progressed: (path: () => string, bytes: number) => void
  readonly counted: (entry: LoadedEntry) => void
  readonly removed: (path: string) => void
  readonly attributeProblem: (path: string, failure: Failure) => void
}
