/** Owns the document of a snapshot: which tree, when, whose. Field order is restic's. */
import { sound } from './damage.ts'
import { type SnapshotId, snapshotId, type TreeId, treeId } from './ids.ts'
import {
  jsonObject,
  jsonString,
  optionalCountField,
  optionalStringField,
  parseJson,
  stringField,
  stringsField,
} from './json.ts'
import { decodeSummary, encodeSummary, type SnapshotSummary } from './snapshot-summary.ts'
import { formatTimestamp, parseTimestamp, parseUtcOffset, type Timestamp } from './timestamp.ts'

export interface SnapshotRecord {
  readonly time: Timestamp
  /** Of the place where it was taken, when that is not UTC; only read: what is written is in UTC. */
  readonly utcOffsetMinutes?: number
  readonly tree: TreeId
  readonly paths: readonly string[]
  readonly hostname: string
  readonly username: string
  readonly uid: number
  readonly gid: number
  readonly excludes: readonly string[]
  readonly tags: readonly string[]
  /** The snapshot that this one was made after, for reuse of unchanged files. */
  readonly parent?: SnapshotId
  /** The snapshot that this one was made from; where only tags or the repository changed, the first of a row. */
  readonly original?: SnapshotId
  readonly programVersion?: string
  /** What its backup found and added; of a snapshot that was no backup, or of an older restic, absent. */
  readonly summary?: SnapshotSummary
}

/** In the order in which restic writes them. */
export const snapshotFields: readonly string[] = [
  'time',
  'parent',
  'tree',
  'paths',
  'hostname',
  'username',
  'uid',
  'gid',
  'excludes',
  'tags',
  'original',
  'program_version',
  'summary',
]

export function encodeSnapshot(snapshot: SnapshotRecord): string {
  const list = (values: readonly string[]) => `[${values.map(jsonString).join(',')}]`
  const fields = [`"time":${jsonString(formatTimestamp(snapshot.time))}`]
  if (snapshot.parent !== undefined) fields.push(`"parent":"${snapshot.parent}"`)
  fields.push(`"tree":"${snapshot.tree}"`, `"paths":${list(snapshot.paths)}`)
  if (snapshot.hostname !== '') fields.push(`"hostname":${jsonString(snapshot.hostname)}`)
  if (snapshot.username !== '') fields.push(`"username":${jsonString(snapshot.username)}`)
  if (snapshot.uid !== 0) fields.push(`"uid":${snapshot.uid}`)
  if (snapshot.gid !== 0) fields.push(`"gid":${snapshot.gid}`)
  if (snapshot.excludes.length > 0) fields.push(`"excludes":${list(snapshot.excludes)}`)
  if (snapshot.tags.length > 0) fields.push(`"tags":${list(snapshot.tags)}`)
  if (snapshot.original !== undefined) fields.push(`"original":"${snapshot.original}"`)
  if (snapshot.programVersion !== undefined) fields.push(`"program_version":${jsonString(snapshot.programVersion)}`)
  if (snapshot.summary !== undefined) fields.push(`"summary":${encodeSummary(snapshot.summary)}`)
  return `{${fields.join(',')}}`
}

/** @throws DamageError */
export function decodeSnapshot(json: string): SnapshotRecord {
  const object = jsonObject(parseJson(json), 'the snapshot')
  sound(object['tree'] !== undefined && object['tree'] !== null, 'the snapshot has no tree')
  const parent = optionalStringField(object, 'parent')
  const original = optionalStringField(object, 'original')
  const programVersion = optionalStringField(object, 'program_version')
  const summary = decodeSummary(object['summary'])
  const time = stringField(object, 'time')
  const utcOffsetMinutes = parseUtcOffset(time)
  return {
    time: parseTimestamp(time),
    ...(utcOffsetMinutes === 0 ? {} : { utcOffsetMinutes }),
    tree: treeId(object['tree']),
    paths: stringsField(object, 'paths'),
    hostname: optionalStringField(object, 'hostname') ?? '',
    username: optionalStringField(object, 'username') ?? '',
    uid: optionalCountField(object, 'uid', 0),
    gid: optionalCountField(object, 'gid', 0),
    excludes: stringsField(object, 'excludes'),
    tags: stringsField(object, 'tags'),
    ...(parent === undefined ? {} : { parent: snapshotId(parent) }),
    ...(original === undefined ? {} : { original: snapshotId(original) }),
    ...(programVersion === undefined ? {} : { programVersion }),
    ...(summary === undefined ? {} : { summary }),
  }
}
