/**
 * What a backup leaves out, as restic has it: by pattern, by size, by file system, by a file that marks a directory.
 *
 * Owns: the rules. Does not own: asking them (the walk does, by name first and by status then).
 */
import type { BigIntStats } from 'node:fs'
import { lstat, open, readFile } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { anyMatches, type PathPattern, parsePattern } from './path-pattern.ts'

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

export interface ExcludeRules {
  /** As they were given, for the snapshot. */
  readonly texts: readonly string[]
  readonly byName?: (path: string) => boolean
  readonly byStatus?: (path: string, status: BigIntStats) => boolean | Promise<boolean>
}

interface Marker {
  readonly name: string
  /** What the file must begin with; empty: anything. */
  readonly header: string
}

/** https://bford.info/cachedir/ */
const cacheMarker: Marker = { name: 'CACHEDIR.TAG', header: 'Signature: 8a477f597d28d172789f06886806bc55' }

/** @throws Failure `options_invalid` (patterns), `usage` (files) */
export async function excludeRules(
  flags: ExcludeFlags,
  { cwd, targets }: { readonly cwd: string; readonly targets: readonly string[] },
): Promise<ExcludeRules> {
  const { exclude, excludeFile, iexclude, iexcludeFile } = flags
  const given = { texts: exclude, files: excludeFile, ignoringCase: iexclude, filesIgnoringCase: iexcludeFile }
  const { texts, patterns } = await patternsOf(given, cwd)
  const markers = [...(flags.excludeCaches ? [cacheMarker] : []), ...(flags.excludeIfPresent ?? []).map(parseMarker)]
  const rules = [
    ...(flags.excludeLargerThan === undefined ? [] : [largerThan(BigInt(flags.excludeLargerThan))]),
    ...(flags.oneFileSystem ? [await otherFileSystems(targets.map((path) => resolve(cwd, path)))] : []),
    ...markers.map(inMarkedDirectory),
  ]
  return {
    texts,
    ...(patterns.length === 0 ? {} : { byName: (path: string) => anyMatches(patterns, path) }),
    ...(rules.length === 0 ? {} : { byStatus: anyOf(rules) }),
  }
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
  const texts = [...(flags.texts ?? []), ...(await linesOfFiles(flags.files, cwd))]
  const ignoring = [...(flags.ignoringCase ?? []), ...(await linesOfFiles(flags.filesIgnoringCase, cwd))]
  return {
    texts: [...texts, ...ignoring],
    patterns: [
      ...texts.map((text) => parsePattern(text)),
      ...ignoring.map((text) => parsePattern(text, { ignoreCase: true })),
    ],
  }
}

type Rule = (path: string, status: BigIntStats) => boolean | Promise<boolean>

function anyOf(rules: readonly Rule[]): Rule {
  return async (path, status) => {
    for (const rule of rules) if (await rule(path, status)) return true
    return false
  }
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

const largerThan =
  (bytesMax: bigint): Rule =>
  (_path, status) =>
    status.isFile() && status.size > bytesMax

function parseMarker(text: string): Marker {
  const [name = '', ...header] = text.split(':')
  if (name !== '' && !name.includes('/')) return { name, header: header.join(':') }
  throw new Failure({ code: 'usage', message: `${JSON.stringify(text)} names no file: write NAME or NAME:HEADER` })
}

/** More answers than this are not kept: what is asked next lies near what was asked last. */
const answersMax = 10_000

/** All that is in a directory with the marker is left out, but for the marker itself. */
function inMarkedDirectory(marker: Marker): Rule {
  const answers = new Map<string, Promise<boolean>>()
  return (path) => {
    if (basename(path) === marker.name) return false
    const directory = dirname(path)
    let answer = answers.get(directory)
    if (answer === undefined) {
      if (answers.size >= answersMax) answers.clear()
      answer = hasMarker(join(directory, marker.name), marker.header)
      answers.set(directory, answer)
    }
    return answer
  }
}

/** Where it cannot be told, the directory is saved: too much is better than too little. */
async function hasMarker(path: string, header: string): Promise<boolean> {
  try {
    const status = await lstat(path)
    if (header === '') return true
    if (!status.isFile()) return false
    const file = await open(path, 'r')
    try {
      const wanted = Buffer.from(header, 'utf8')
      const { bytesRead, buffer } = await file.read(Buffer.alloc(wanted.length), 0, wanted.length, 0)
      return buffer.subarray(0, bytesRead).equals(wanted)
    } finally {
      await file.close()
    }
  } catch {
    return false
  }
}

/**
 * Stay on the file systems of what was named. The directory where another one is mounted is kept, and nothing in it, as
 * restic does it: so that a restore has the place to mount it again.
 */
async function otherFileSystems(targets: readonly string[]): Promise<Rule> {
  const devices = new Map<string, bigint>()
  for (const target of targets) {
    // What is not there is reported by the backup itself.
    const status = await lstat(target, { bigint: true }).catch(() => undefined)
    if (status !== undefined) devices.set(target, status.dev)
  }
  const isHome = (path: string, device: bigint): boolean => {
    for (let at = path; ; at = dirname(at)) {
      const known = devices.get(at)
      if (known !== undefined) return known === device
      if (at === dirname(at)) return true
    }
  }
  return async (path, status) => {
    if (isHome(path, status.dev)) return false
    if (!status.isDirectory()) return true
    const above = await lstat(dirname(path), { bigint: true })
    return !isHome(dirname(path), above.dev)
  }
}
