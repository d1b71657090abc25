/**
 * What a backup leaves out, as restic has it: by pattern, by size, by file system, by a file that marks a directory; and
 * what a restore or a rewriting takes, by pattern.
 *
 * Owns: what flags and files say. Does not own: asking it, see selection/ of the repository.
 */
import { lstat, readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import {
  type ExcludeRules,
  type FileSystemRoot,
  type FolderMarker,
  type PathPattern,
  type PatternText,
  parsePatterns,
} from '@stillpoint/repository/selection'

export interface ExcludeFlags {
  readonly exclude?: readonly string[]
  readonly iexclude?: readonly string[]
  readonly excludeFile?: readonly string[]
  readonly iexcludeFile?: readonly string[]
  readonly excludeCaches?: true
  readonly excludeIfPresent?: readonly string[]
  readonly excludeLargerThan?: number
  readonly oneFileSystem?: true
}

export interface GivenExcludes {
  /** As they were given, for the snapshot. */
  readonly texts: readonly string[]
  /** Undefined where nothing is left out. */
  readonly rules: ExcludeRules | undefined
}

/** https://bford.info/cachedir/ */
const cacheMarker: FolderMarker = { name: 'CACHEDIR.TAG', header: 'Signature: 8a477f597d28d172789f06886806bc55' }

/** @throws Failure `options_invalid` (patterns), `usage` (files) */
export async function excludeRules(
  flags: ExcludeFlags,
  { cwd, targets }: { readonly cwd: string; readonly targets: readonly string[] },
): Promise<GivenExcludes> {
  const { exclude, excludeFile, iexclude, iexcludeFile } = flags
  const given = { texts: exclude, files: excludeFile, ignoringCase: iexclude, filesIgnoringCase: iexcludeFile }
  const patterns = await textsOf(given, cwd)
  parsePatterns(patterns)
  const markers = [...(flags.excludeCaches ? [cacheMarker] : []), ...(flags.excludeIfPresent ?? []).map(parseMarker)]
  const rules: ExcludeRules = {
    patterns,
    markers,
    ...(flags.excludeLargerThan === undefined ? {} : { fileBytesMax: flags.excludeLargerThan }),
    ...(flags.oneFileSystem ? { fileSystems: await fileSystemsOf(targets.map((path) => resolve(cwd, path))) } : {}),
  }
  const { fileBytesMax, fileSystems } = rules
  const isEmpty = patterns.length + markers.length === 0 && fileBytesMax === undefined && fileSystems === undefined
  return { texts: patterns.map(({ text }) => text), rules: isEmpty ? undefined : rules }
}

export interface PatternFlags {
  readonly texts?: readonly string[] | undefined
  readonly files?: readonly string[] | undefined
  readonly ignoringCase?: readonly string[] | undefined
  readonly filesIgnoringCase?: readonly string[] | undefined
}

export interface GivenPatterns {
  /** As they were given. */
  readonly texts: readonly string[]
  readonly patterns: readonly PathPattern[]
}

/** From the command line and from files. @throws Failure `options_invalid` (patterns), `usage` (files) */
export async function patternsOf(flags: PatternFlags, cwd: string): Promise<GivenPatterns> {
  const texts = await textsOf(flags, cwd)
  return { texts: texts.map(({ text }) => text), patterns: parsePatterns(texts) }
}

export interface IncludeFlags {
  readonly include?: readonly string[]
  readonly iinclude?: readonly string[]
  readonly includeFile?: readonly string[]
  readonly iincludeFile?: readonly string[]
}

/** None where all is taken. @throws Failure `options_invalid` (patterns), `usage` (files) */
export async function includePatterns(flags: IncludeFlags, cwd: string): Promise<readonly PathPattern[]> {
  const { include, includeFile, iinclude, iincludeFile } = flags
  const given = { texts: include, files: includeFile, ignoringCase: iinclude, filesIgnoringCase: iincludeFile }
  return (await patternsOf(given, cwd)).patterns
}

async function textsOf(flags: PatternFlags, cwd: string): Promise<readonly PatternText[]> {
  const texts = [...(flags.texts ?? []), ...(await linesOfFiles(flags.files, cwd))]
  const ignoring = [...(flags.ignoringCase ?? []), ...(await linesOfFiles(flags.filesIgnoringCase, cwd))]
  return [...texts.map((text) => ({ text })), ...ignoring.map((text) => ({ text, ignoreCase: true }))]
}

/** Lines without comments and empty ones; `$NAME` and `${NAME}` stand for the environment, `$$` for one "$". */
async function linesOfFiles(files: readonly string[] | undefined, cwd: string): Promise<readonly string[]> {
  const lines: string[] = []
  for (const file of files ?? []) {
    const text = await readFile(resolve(cwd, file), 'utf8').catch((cause: unknown) => {
      const message = `the file ${file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`
      throw new Failure({ code: 'usage', message, cause })
    })
    const patterns = text.split('\n').map((line) => line.trim())
    lines.push(...patterns.filter((line) => line !== '' && !line.startsWith('#')).map(withEnvironment))
  }
  return lines
}

function withEnvironment(line: string): string {
  return line.replace(/\$(?:\$|\{(\w+)\}|(\w+))/g, (_, braced?: string, plain?: string) => {
    const name = braced ?? plain
    return name === undefined ? '$' : (process.env[name] ?? '')
  })
}

function parseMarker(text: string): FolderMarker {
  const [name = '', ...header] = text.split(':')
  if (name !== '' && !name.includes('/')) return { name, header: header.join(':') }
  throw new Failure({ code: 'usage', message: `${JSON.stringify(text)} names no file: write NAME or NAME:HEADER` })
}

async function fileSystemsOf(targets: readonly string[]): Promise<readonly FileSystemRoot[]> {
  const roots: FileSystemRoot[] = []
  for (const path of targets) {
    // What is not there is reported by the backup itself.
    const status = await lstat(path, { bigint: true }).catch(() => undefined)
    if (status !== undefined) roots.push({ path, device: status.dev })
  }
  return roots
}
