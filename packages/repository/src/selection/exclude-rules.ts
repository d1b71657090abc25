/**
 * What a walk leaves out: by pattern, by size, by file system, by a file that marks a directory. Data, so that threads can
 * be given it: see excluder.ts for who asks.
 */
import { type PathPattern, parsePattern } from './path-pattern.ts'

export interface ExcludeRules {
  /** For absolute paths. Directories that one is for are left out with all that is in them. */
  readonly patterns: readonly PatternText[]
  /** Longer files are left out. */
  readonly fileBytesMax?: number
  /** Of a directory with such a file, all but that file is left out. */
  readonly markers?: readonly FolderMarker[]
  /**
   * Nothing is saved from another file system than these are on. Of a directory where another one is mounted, the
   * directory is.
   */
  readonly fileSystems?: readonly FileSystemRoot[]
}

export interface PatternText {
  /** See docs/repo.md. */
  readonly text: string
  readonly ignoreCase?: boolean
}

export interface FolderMarker {
  readonly name: string
  /** What the file must begin with; empty: anything. */
  readonly header: string
}

export interface FileSystemRoot {
  /** Absolute. */
  readonly path: string
  /** The device that it is on. */
  readonly device: bigint
}

/** @throws Failure `options_invalid` */
export function parsePatterns(patterns: readonly PatternText[]): readonly PathPattern[] {
  return patterns.map(({ text, ignoreCase = false }) => parsePattern(text, { ignoreCase }))
}

/** As a text: a message takes longer for many small objects, and who gets it again knows it by its text. */
export function encodeRules({ fileSystems, ...rules }: ExcludeRules): string {
  const devices = fileSystems?.map(({ path, device }) => [path, device.toString()])
  return JSON.stringify({ ...rules, devices })
}

export function decodeRules(text: string): ExcludeRules {
  const { devices, ...rules } = JSON.parse(text) as ExcludeRules & { devices?: readonly [string, string][] }
  if (devices === undefined) return rules
  return { ...rules, fileSystems: devices.map(([path, device]) => ({ path, device: BigInt(device) })) }
}
