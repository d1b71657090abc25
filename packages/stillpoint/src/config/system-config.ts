/**
 * The configuration of one system, as the rest of the program sees it: checked, complete, with absolute paths.
 *
 * Owns: the shape. Does not own: how it is written down (schema.ts), read and checked (load.ts), nor what the options
 * of a source mean (sources/<kind>/options.ts).
 *
 * Invariants:
 * - Every name has passed `participantName`; every writer is a declared process.
 * - The options of a store are the output of its source's schema: defaults are filled in. Paths in them are still
 *   relative to `baseDir`.
 * - No secret is in it: only where to find one.
 */
import type { Deadlines } from '@stillpoint/core'
import type { ParticipantName } from '@stillpoint/core/kernel'
import type { S3Retention, S3StorageClass } from '@stillpoint/repository'

export interface LocalPlace {
  /** Absolute path of the repository's directory. */
  readonly path: string
  readonly url?: never
}

export interface ServerPlace {
  readonly path?: never
  /** Of a REST server, or of a bucket on S3: with `s3:` at its start. Without user and password. */
  readonly url: string
  /** Absolute paths. */
  readonly credentialsFile?: string
  readonly caFile?: string
  readonly insecureHttp?: boolean
  readonly s3?: S3Config
}

export interface S3Config {
  readonly region?: string | undefined
  readonly profile?: string | undefined
  readonly addressing?: 'path' | 'host' | undefined
  readonly storageClass?: S3StorageClass | undefined
  readonly objectLock?: S3Retention | undefined
}

export interface RepositoryPassword {
  /** Relative to `baseDir`; `readSecret` of config/secret.ts reads it. */
  readonly passwordFile?: string
  readonly passwordCommand?: string | readonly string[]
}

export type RepositoryConfig = (LocalPlace | ServerPlace) & RepositoryPassword

/** For messages, and to tell one repository from another. */
export function repositoryAddress(repository: RepositoryConfig): string {
  return repository.path ?? repository.url
}

export interface StoreConfig {
  readonly kind: 'store'
  readonly name: ParticipantName
  /** Kind of the source that drives it. */
  readonly source: string
  readonly options: Readonly<Record<string, unknown>>
  /** The processes that write it; `unknown` when others may. */
  readonly writers: readonly ParticipantName[] | 'unknown'
}

export interface ProcessConfig {
  readonly kind: 'process'
  readonly name: ParticipantName
}

export type ParticipantConfig = StoreConfig | ProcessConfig

export interface SystemConfig {
  /** Absolute path of the file that it was read from. */
  readonly path: string
  /** Absolute path of that file's directory: relative paths start there. */
  readonly baseDir: string
  readonly system: string
  readonly repository: RepositoryConfig
  /** Absolute path: catalog, address of the server, tokens. */
  readonly stateDir: string
  readonly server: { readonly host: string; readonly port: number }
  /** Only what the file sets; `defaultDeadlines` of the core fills in the rest. */
  readonly deadlines: Partial<Deadlines>
  readonly retries: { readonly attempts: number; readonly backoffMs: number }
  readonly schedule: { readonly everyMs: number } | null
  readonly participants: readonly ParticipantConfig[]
}

export function storesIn(config: SystemConfig): readonly StoreConfig[] {
  return config.participants.filter((participant) => participant.kind === 'store')
}

export function processesIn(config: SystemConfig): readonly ProcessConfig[] {
  return config.participants.filter((participant) => participant.kind === 'process')
}
