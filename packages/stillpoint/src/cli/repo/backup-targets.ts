/**
 * What a backup is to save, from the command line and from files that list it, as restic has them: `--files-from` with
 * patterns and comments, `--files-from-verbatim` with a path per line, `--files-from-raw` with a NUL after each path.
 *
 * Owns: reading and expanding the lists. Does not own: whether what they name is there.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { componentTest } from '@stillpoint/repository/selection'

export interface TargetFlags {
  readonly filesFrom?: readonly string[]
  readonly filesFromVerbatim?: readonly string[]
  readonly filesFromRaw?: readonly string[]
}

export interface TargetSources {
  readonly cwd: string
  /** For `-`. */
  readonly stdin: AsyncIterable<Uint8Array | string>
  /** Told of patterns that match nothing. */
  readonly warn: (text: string) => void
}

const listBytesMax = 256 << 20

/** In the order of restic: lists first, then arguments. @throws Failure `usage` */
export async function backupTargets(
  args: readonly string[],
  flags: TargetFlags,
  sources: TargetSources,
): Promise<readonly string[]> {
  const targets: string[] = []
  const { nameFromBytes } = await import('@stillpoint/repository')
  for (const file of flags.filesFrom ?? []) {
    for (const line of linesOf(await readList(file, sources)).map(nameFromBytes)) {
      const pattern = line.trim()
      if (pattern === '' || pattern.startsWith('#')) continue
      const matches = await expandGlob(pattern, sources.cwd)
      if (matches.length === 0) sources.warn(`the pattern ${JSON.stringify(pattern)} of ${file} matches nothing`)
      targets.push(...matches)
    }
  }
  for (const file of flags.filesFromVerbatim ?? []) {
    targets.push(
      ...linesOf(await readList(file, sources))
        .filter((line) => line.length > 0)
        .map(nameFromBytes),
    )
  }
  for (const file of flags.filesFromRaw ?? []) {
    targets.push(...rawPaths(await readList(file, sources), file).map(nameFromBytes))
  }
  return [...targets, ...args]
}

export function isGivenByLists(flags: TargetFlags): boolean {
  return [flags.filesFrom, flags.filesFromVerbatim, flags.filesFromRaw].some((files) => files !== undefined)
}

function linesOf(list: Buffer): readonly Buffer[] {
  return split(list, 0x0a).map((line) => (line.at(-1) === 0x0d ? line.subarray(0, -1) : line))
}

function rawPaths(list: Buffer, file: string): readonly Buffer[] {
  if (list.length > 0 && list.at(-1) !== 0) throw usage(`${file}: the last path is not ended by a NUL`)
  const paths = split(list, 0).slice(0, -1)
  if (paths.some((path) => path.length === 0)) throw usage(`${file}: there is an empty path in it`)
  return paths
}

/** Bytes, since names need not be UTF-8. */
function split(list: Buffer, separator: number): readonly Buffer[] {
  const parts: Buffer[] = []
  let begin = 0
  for (;;) {
    const end = list.indexOf(separator, begin)
    parts.push(list.subarray(begin, end === -1 ? list.length : end))
    if (end === -1) return parts
    begin = end + 1
  }
}

async function readList(file: string, { cwd, stdin }: TargetSources): Promise<Buffer> {
  if (file !== '-') {
    try {
      return await readFile(resolve(cwd, file))
    } catch (cause) {
      const message = `the list ${file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`
      throw new Failure({ code: 'usage', message, cause })
    }
  }
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of stdin) {
    pieces.push(Buffer.from(piece))
    bytes += piece.length
    if (bytes > listBytesMax) throw usage(`the list on stdin has more than ${listBytesMax} bytes`)
  }
  return Buffer.concat(pieces)
}

const usage = (message: string) => new Failure({ code: 'usage', message })
const magic = /[*?[\\]/

/** Paths that match, sorted; each component by itself, so `*` stays within one. */
export async function expandGlob(pattern: string, cwd: string): Promise<readonly string[]> {
  if (!magic.test(pattern)) return [pattern]
  let found = [pattern.startsWith('/') ? '/' : '']
  for (const part of pattern.split('/').filter((component) => component !== '')) {
    const next: string[] = []
    for (const base of found) {
      if (!magic.test(part)) next.push(join(base, part))
      else next.push(...(await matchesIn(resolve(cwd, base), part)).map((name) => join(base, name)))
    }
    found = next
  }
  return found
}

async function matchesIn(directory: string, part: string): Promise<readonly string[]> {
  const test = componentTest(part, { text: part })
  // What is no directory, or may not be listed, matches nothing: as with the shell's patterns.
  const names = await readdir(directory).catch(() => [])
  return names.filter((name) => test.test(name)).sort()
}
