/**
 * What a server holds, compared by value: types, elements, times to live, streams with their groups. The order in which a
 * server happens to keep sets, hashes or keys, and its encodings, make no difference.
 */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { Connection } from './client.ts'

export interface KeyState {
  readonly digest: string
  /** When it expires, milliseconds since 1970; −1 never. */
  readonly expiresAt: number
}

const scanned = z.tuple([z.instanceof(Buffer), z.array(z.instanceof(Buffer))])

/** Keys of the chosen database, as bytes. May repeat one, as SCAN does. */
export async function* scanKeys(connection: Connection, signal: AbortSignal): AsyncGenerator<readonly Buffer[]> {
  let cursor: string | undefined
  while (cursor !== '0') {
    const [next, keys] = scanned.parse(await connection.callBytes(signal, 'SCAN', cursor ?? '0', 'COUNT', 500))
    cursor = next.toString()
    yield keys
  }
}

/** Undefined when there is no such key. */
export async function keyState(
  connection: Connection,
  key: Buffer,
  signal: AbortSignal,
): Promise<KeyState | undefined> {
  const type = String(await connection.callBytes(signal, 'TYPE', key))
  if (type === 'none') return undefined
  const expiresAt = Number(await connection.callBytes(signal, 'PEXPIRETIME', key))
  const value = await contentOf(connection, type, key, signal)
  const digest = createHash('sha256').update(type).update(canonical(value)).digest('hex')
  return { digest, expiresAt }
}

async function contentOf(connection: Connection, type: string, key: Buffer, signal: AbortSignal): Promise<unknown> {
  switch (type) {
    case 'string':
      return connection.callBytes(signal, 'GET', key)
    case 'list':
      return connection.callBytes(signal, 'LRANGE', key, 0, -1)
    case 'set':
      return sorted(await connection.callBytes(signal, 'SMEMBERS', key), 1)
    case 'hash':
      return sorted(await connection.callBytes(signal, 'HGETALL', key), 2)
    case 'zset':
      return sorted(await connection.callBytes(signal, 'ZRANGE', key, 0, -1, 'WITHSCORES'), 2)
    case 'stream':
      return [
        await connection.callBytes(signal, 'XRANGE', key, '-', '+'),
        withoutMeasures(await connection.callBytes(signal, 'XINFO', 'STREAM', key, 'FULL', 'COUNT', 0)),
      ]
    default:
      // A module's type: as its module writes it.
      return connection.callBytes(signal, 'DUMP', key)
  }
}

/** Sorts a flat answer in groups: members, field and value, member and score. */
function sorted(answer: unknown, width: number): unknown {
  if (!Array.isArray(answer)) return answer
  const groups: string[] = []
  for (let at = 0; at < answer.length; at += width) groups.push(canonical(answer.slice(at, at + width)))
  return groups.toSorted()
}

/** How a stream is stored, and when somebody was last seen, is not its content. */
const measures = new Set(['radix-tree-keys', 'radix-tree-nodes', 'seen-time', 'active-time', 'lag', 'entries-read'])

function withoutMeasures(answer: unknown): unknown {
  if (!Array.isArray(answer)) return answer
  const kept: unknown[] = []
  for (let at = 0; at < answer.length; at++) {
    if (Buffer.isBuffer(answer[at]) && measures.has(String(answer[at]))) at += 1
    else kept.push(withoutMeasures(answer[at]))
  }
  return kept
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (Buffer.isBuffer(value)) return value.toString('base64')
  return JSON.stringify(value) ?? 'null'
}
