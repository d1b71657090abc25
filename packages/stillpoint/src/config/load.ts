/**
 * Reads `stillpoint.yaml`: file, text, YAML, schema, and the checks across participants.
 *
 * Owns: the way from a path to a `SystemConfig`, or to every problem that the file has, each with its place.
 * Does not own: what the options of a source mean. Their schemas are given (sources/registry.ts), for the
 * configuration knows no source.
 *
 * Invariants:
 * - All problems are reported at once, except that content is judged only where the syntax is right.
 * - Nothing is taken from the environment: the file says the same for everybody who runs it.
 */
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { assert, Failure, type ParticipantName, participantName } from '@stillpoint/core/kernel'
import type { z } from 'zod'
import { nearestWord } from './nearest.ts'
import { type ConfigProblem, keysAllowed, problemsOf, problemText, shownPath, unknownKey } from './problems.ts'
import { type ConfigFile, configSchema, nameProblem, processSchema, storeSchema } from './schema.ts'
import type { LocalPlace, ParticipantConfig, ServerPlace, StoreConfig, SystemConfig } from './system-config.ts'
import { readYaml, type TreePath, type YamlTree } from './yaml-tree.ts'

export const configBytesMax = 1024 * 1024
const problemsShownMax = 20

/** The schema of the options of each kind of source. */
export type OptionSchemas = ReadonlyMap<string, z.ZodType>

export interface LoadOptions {
  readonly optionSchemas: OptionSchemas
}

export type ParsedConfig =
  | { readonly state: 'valid'; readonly config: SystemConfig }
  | { readonly state: 'invalid'; readonly problems: readonly ConfigProblem[] }

/**
 * @param path of the file; relative paths start at the working directory. Messages show `shownAs`, or else the path.
 * @throws Failure `config_absent` | `config_unreadable` | `config_too_large` | `config_not_text` | `config_invalid`
 */
export async function loadConfig(
  path: string,
  options: LoadOptions & { readonly shownAs?: string },
): Promise<SystemConfig> {
  const shown = options.shownAs ?? path
  const text = decodeText(await readBounded(path, shown), shown)
  const parsed = parseConfig(text, { ...options, path: resolve(path) })
  if (parsed.state === 'valid') return parsed.config
  const texts = parsed.problems.slice(0, problemsShownMax).map((problem) => problemText(problem, shown))
  const more = parsed.problems.length - texts.length
  const list = [...texts, ...(more > 0 ? [`and ${more} more`] : [])]
  const message =
    list.length === 1 ? (list[0] ?? '') : `${shown} has ${parsed.problems.length} errors:\n  ${list.join('\n  ')}`
  throw new Failure({ code: 'config_invalid', message, hint: 'docs/configuration.md lists every key.' })
}

async function readBounded(path: string, shown: string): Promise<Uint8Array> {
  let file: FileHandle
  try {
    // O_NONBLOCK: a FIFO without a writer would block the open for ever.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') {
      throw new Failure({
        code: 'config_absent',
        message: `there is no ${shown}`,
        hint: 'Write one with "stillpoint init", change into the directory that has it, or name it with --config FILE.',
        cause,
      })
    }
    throw unreadable(shown, cause)
  }
  try {
    if (!(await file.stat()).isFile()) throw unreadable(shown, new Error('it is not a regular file'))
    const buffer = Buffer.alloc(configBytesMax + 1)
    let length = 0
    while (length < buffer.length) {
      const { bytesRead } = await file.read(buffer, length, buffer.length - length).catch((cause: unknown) => {
        throw unreadable(shown, cause)
      })
      if (bytesRead === 0) return buffer.subarray(0, length)
      length += bytesRead
    }
  } finally {
    await file.close()
  }
  throw new Failure({
    code: 'config_too_large',
    message: `${shown} is larger than ${configBytesMax / 1024} KiB`,
    hint: 'This is hardly a configuration of Stillpoint. Name the right file with --config FILE.',
  })
}

function unreadable(path: string, cause: unknown): Failure {
  return new Failure({
    code: 'config_unreadable',
    message: `${path} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
    hint: 'Check that it is a regular file, and that the user who runs stillpoint may read it.',
    cause,
  })
}

function decodeText(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new Failure({
      code: 'config_not_text',
      message: `${path}:${firstBadLine(bytes)} is not UTF-8 text`,
      hint: 'Save the file in the encoding UTF-8.',
    })
  }
}

function firstBadLine(bytes: Uint8Array): number {
  let line = 1
  let start = 0
  while (start < bytes.length) {
    const newline = bytes.indexOf(0x0a, start)
    const end = newline === -1 ? bytes.length : newline
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(start, end))
    } catch {
      // This is the line that was looked for.
      return line
    }
    line += 1
    start = end + 1
  }
  return 1
}

/** The configuration in a text, or everything that is wrong with it, in the order of the text. */
export function parseConfig(text: string, options: LoadOptions & { readonly path: string }): ParsedConfig {
  const tree = readYaml(text)
  if (tree.problems.length > 0) return { state: 'invalid', problems: inOrder(tree.problems) }
  if (tree.value === null) {
    const hint = '"stillpoint init" writes a first one'
    return { state: 'invalid', problems: [{ place: { line: 1, column: 1 }, what: 'nothing but empty lines', hint }] }
  }
  const file = configSchema.safeParse(tree.value)
  const fileProblems = file.success
    ? []
    : problemsOf(file.error.issues, { tree, base: [], keysAt: (path) => keysAllowed(configSchema, path) })
  const { participants, problems } = readParticipants(tree, options.optionSchemas)
  const all = [...fileProblems, ...problems]
  if (!file.success || all.length > 0) return { state: 'invalid', problems: inOrder(all) }
  return { state: 'valid', config: assemble(file.data, participants, options.path) }
}

function inOrder(problems: readonly ConfigProblem[]): readonly ConfigProblem[] {
  return problems.toSorted((a, b) => a.place.line - b.place.line || a.place.column - b.place.column)
}

function assemble(file: ConfigFile, participants: readonly ParticipantConfig[], path: string): SystemConfig {
  const baseDir = dirname(path)
  const { passwordFile, passwordCommand } = file.repository
  const place = placeOf(file.repository, baseDir)
  assert(place !== undefined, 'the schema has seen to it that the repository has a place')
  return {
    path,
    baseDir,
    system: file.system,
    repository: {
      ...place,
      ...(passwordFile === undefined ? {} : { passwordFile }),
      ...(passwordCommand === undefined ? {} : { passwordCommand }),
    },
    stateDir: resolve(baseDir, file.stateDir),
    server: file.server,
    deadlines: Object.fromEntries(Object.entries(file.deadlines).filter(([, ms]) => ms !== undefined)),
    retries: { attempts: file.retries.attempts, backoffMs: file.retries.backoff },
    schedule: file.schedule === undefined ? null : { everyMs: file.schedule.every },
    participants,
  }
}

function placeOf(repository: ConfigFile['repository'], baseDir: string): LocalPlace | ServerPlace | undefined {
  const { path, url, credentialsFile, caFile, insecureHttp, s3 } = repository
  if (path !== undefined) return { path: resolve(baseDir, path) }
  if (url === undefined) return undefined
  return {
    url,
    ...(credentialsFile === undefined ? {} : { credentialsFile: resolve(baseDir, credentialsFile) }),
    ...(caFile === undefined ? {} : { caFile: resolve(baseDir, caFile) }),
    ...(insecureHttp === undefined ? {} : { insecureHttp }),
    ...(s3 === undefined ? {} : { s3 }),
  }
}

interface ParticipantsRead {
  readonly participants: readonly ParticipantConfig[]
  readonly problems: readonly ConfigProblem[]
}

function readParticipants(tree: YamlTree, schemas: OptionSchemas): ParticipantsRead {
  const declared = asMap(asMap(tree.value)?.['participants'])
  // That it is no map, the schema says.
  if (declared === undefined) return { participants: [], problems: [] }
  const names = Object.keys(declared)
  const problems: ConfigProblem[] = []
  if (names.length === 0) {
    const hint = 'declare a store ({ source: … }) or a process ({ process: true })'
    problems.push({ place: tree.placeOfKey(['participants']), what: 'participants must not be empty', hint })
  }
  const participants: ParticipantConfig[] = []
  for (const name of names) {
    const read = readParticipant(tree, name, declared[name], schemas)
    problems.push(...read.problems)
    participants.push(...read.participants)
  }
  const processes = new Set<string>(names.filter((name) => asMap(declared[name])?.['process'] === true))
  for (const participant of participants) {
    if (participant.kind === 'store') problems.push(...unknownWriters(tree, participant, names, processes))
  }
  return { participants, problems }
}

function readParticipant(tree: YamlTree, name: string, declared: unknown, schemas: OptionSchemas): ParticipantsRead {
  const base: TreePath = ['participants', name]
  const problem = nameProblem(name)
  const problems: ConfigProblem[] =
    problem === undefined ? [] : [{ place: tree.placeOfKey(base), what: `participant name: ${problem}` }]
  const map = asMap(declared)
  if (map === undefined) {
    const what = `${shownPath(base)} must be a map with "source" (a store) or "process: true"`
    return { participants: [], problems: [...problems, { place: tree.placeOf(base), what }] }
  }
  if ('process' in map) {
    const parsed = processSchema.safeParse(map)
    if (!parsed.success) {
      problems.push(...problemsOf(parsed.error.issues, { tree, base, keysAt: () => ['process'] }))
    }
    return { participants: problems.length === 0 ? [{ kind: 'process', name: participantName(name) }] : [], problems }
  }
  if (!('source' in map)) {
    const known = ['source', 'process']
    const near = Object.keys(map).filter((key) => nearestWord(key, known) !== undefined)
    const found = near.map((key) => unknownKey(key, base, known, tree))
    const what = `missing key "source" in ${shownPath(base)}`
    const hint = `it must be one of ${[...schemas.keys()].sort().join(', ')}; for a process that runs the SDK: "process: true"`
    problems.push(...(found.length > 0 ? found : [{ place: tree.placeOfKey(base), what, hint }]))
    return { participants: [], problems }
  }
  return readStore({ tree, base, name, map, schemas, problems })
}

interface StoreReading {
  readonly tree: YamlTree
  readonly base: TreePath
  readonly name: string
  readonly map: Readonly<Record<string, unknown>>
  readonly schemas: OptionSchemas
  readonly problems: ConfigProblem[]
}

function readStore({ tree, base, name, map, schemas, problems }: StoreReading): ParticipantsRead {
  const { source, writers, ...given } = map
  const parsed = storeSchema.safeParse({ source, ...(writers === undefined ? {} : { writers }) })
  if (!parsed.success) problems.push(...problemsOf(parsed.error.issues, { tree, base, keysAt: () => [] }))
  const schema = typeof source === 'string' ? schemas.get(source) : undefined
  if (typeof source === 'string' && source !== '' && schema === undefined) {
    const near = nearestWord(source, schemas.keys())
    const hint =
      near === undefined ? `known: ${[...schemas.keys()].sort().join(', ')}` : `did you mean ${JSON.stringify(near)}?`
    problems.push({
      place: tree.placeOf([...base, 'source']),
      what: `${shownPath([...base, 'source'])} is not a known source`,
      hint,
    })
  }
  if (schema === undefined) return { participants: [], problems }
  const options = schema.safeParse(given)
  if (!options.success) {
    const keysAt = (path: TreePath) => [
      ...keysAllowed(schema, path),
      ...(path.length === 0 ? ['source', 'writers'] : []),
    ]
    problems.push(...problemsOf(options.error.issues, { tree, base, keysAt }))
  }
  const checked = options.success ? asMap(options.data) : undefined
  if (problems.length > 0 || !parsed.success || checked === undefined) return { participants: [], problems }
  const names: readonly ParticipantName[] | 'unknown' =
    parsed.data.writers === undefined || parsed.data.writers === 'unknown'
      ? 'unknown'
      : [...new Set(parsed.data.writers)].map(participantName)
  const store = {
    kind: 'store',
    name: participantName(name),
    source: parsed.data.source,
    options: checked,
    writers: names,
  } as const
  return { participants: [store], problems }
}

function unknownWriters(
  tree: YamlTree,
  store: StoreConfig,
  names: readonly string[],
  processes: ReadonlySet<string>,
): readonly ConfigProblem[] {
  if (store.writers === 'unknown') return []
  const list = asMap(asMap(asMap(tree.value)?.['participants'])?.[store.name])?.['writers']
  return store.writers.flatMap((writer) => {
    if (processes.has(writer)) return []
    const path = ['participants', store.name, 'writers', Array.isArray(list) ? list.indexOf(writer) : 0]
    const near = nearestWord(writer, processes)
    const hint = names.includes(writer)
      ? 'only a process ("process: true") can be a writer'
      : near === undefined
        ? `declare it under participants: ${writer}: { process: true }`
        : `did you mean ${JSON.stringify(near)}?`
    const what = `${shownPath(path)} names ${JSON.stringify(writer)}, which is not a declared process`
    return [{ place: tree.placeOf(path), what, hint }]
  })
}

function asMap(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return isRecord(value) ? value : undefined
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return value !== null && typeof value === 'object' && !Array.isArray(value)
}
