/** Owns the document of a lock file. restic's design document, section "Locks". */
import { sound } from './damage.ts'
import { jsonObject, jsonString, optionalCountField, optionalStringField, parseJson, stringField } from './json.ts'
import { formatTimestamp, parseTimestamp, type Timestamp } from './timestamp.ts'

export interface LockRecord {
  readonly time: Timestamp
  readonly exclusive: boolean
  readonly hostname: string
  readonly username: string
  readonly pid: number
  readonly uid: number
  readonly gid: number
}

export function encodeLock(lock: LockRecord): string {
  const fields = [
    `"time":${jsonString(formatTimestamp(lock.time))}`,
    `"exclusive":${lock.exclusive}`,
    `"hostname":${jsonString(lock.hostname)}`,
    `"username":${jsonString(lock.username)}`,
    `"pid":${lock.pid}`,
  ]
  if (lock.uid !== 0) fields.push(`"uid":${lock.uid}`)
  if (lock.gid !== 0) fields.push(`"gid":${lock.gid}`)
  return `{${fields.join(',')}}`
}

/** @throws DamageError */
export function decodeLock(json: string): LockRecord {
  const object = jsonObject(parseJson(json), 'the lock')
  const exclusive = object['exclusive']
  sound(typeof exclusive === 'boolean', 'field exclusive is not a boolean')
  return {
    time: parseTimestamp(stringField(object, 'time')),
    exclusive,
    hostname: optionalStringField(object, 'hostname') ?? '',
    username: optionalStringField(object, 'username') ?? '',
    pid: optionalCountField(object, 'pid', 0),
    uid: optionalCountField(object, 'uid', 0),
    gid: optionalCountField(object, 'gid', 0),
  }
}
