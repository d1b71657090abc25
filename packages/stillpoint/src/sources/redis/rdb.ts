/** The beginning and the end of an RDB file: whether it is one, whole, of which format version, and when it was begun. */
import type { FileHandle } from 'node:fs/promises'
import { Failure } from '@stillpoint/core/kernel'

export interface RdbHeader {
  readonly formatVersion: number
  /** When its writer began it, seconds since 1970, by the server's clock. Undefined where it does not say so. */
  readonly beganAt: number | undefined
}

const auxOpcode = 0xfa
const endOpcode = 0xff
const headBytes = 4096

/** @throws Failure `rdb_damaged` */
export async function readRdbHeader(file: FileHandle, path: string): Promise<RdbHeader> {
  const damaged = (why: string) =>
    new Failure({
      code: 'rdb_damaged',
      message: `${path}: ${why}`,
      hint: 'Check it with redis-check-rdb, and look into the server’s log.',
    })
  const { size } = await file.stat()
  const head = Buffer.alloc(Math.min(headBytes, size))
  await file.read(head, 0, head.length, 0)
  const version = /^(?:REDIS(\d{4})|VALKEY(\d{3}))$/.exec(head.toString('latin1', 0, 9))
  if (version === null) throw damaged('this is not an RDB file')
  // 0xFF, then a checksum of 8 bytes, ends every file of version 5 and newer.
  const last = Buffer.alloc(1)
  await file.read(last, 0, 1, size - 9)
  if (last[0] !== endOpcode) throw damaged('it breaks off before its end')
  return { formatVersion: Number(version[1] ?? version[2]), beganAt: auxFields(head).get('ctime') }
}

/** Integer values of the auxiliary fields at the beginning. Redis's rdb.c has the encoding of lengths and integers. */
function auxFields(head: Buffer): ReadonlyMap<string, number> {
  const fields = new Map<string, number>()
  let at = 9
  const text = (): string | number | undefined => {
    const first = head[at++]
    if (first === undefined) return undefined
    if (first >> 6 === 0) {
      at += first & 0x3f
      return head.toString('latin1', at - (first & 0x3f), at)
    }
    const bytes = { 192: 1, 193: 2, 194: 4 }[first]
    if (bytes === undefined || at + bytes > head.length) return undefined
    at += bytes
    return head.readIntLE(at - bytes, bytes)
  }
  while (head[at] === auxOpcode) {
    at += 1
    const [name, value] = [text(), text()]
    if (name === undefined || value === undefined) break
    const number = Number(value)
    if (typeof name === 'string' && Number.isSafeInteger(number)) fields.set(name, number)
  }
  return fields
}
