/**
 * Owns writing a directory of a snapshot as a tar archive: POSIX.1-2001 (pax), so that names of any length, sizes beyond
 * 8 GiB and fractions of seconds are kept. Does not own where it goes.
 */
import type { TreeId } from '@stillpoint/core/kernel'
import { bytesFromName } from '../format/node-name.ts'
import type { TreeNode } from '../format/tree.ts'
import type { Vault } from '../vault.ts'
import { archiveEntries, entryContent } from './archive-entries.ts'

const blockBytes = 512
const typeFlags: Readonly<Partial<Record<TreeNode['type'], string>>> = {
  file: '0',
  symlink: '2',
  chardev: '3',
  dev: '4',
  dir: '5',
  fifo: '6',
}
const octalMax = 0o7777777
const sizeMax = 0o77777777777
const nameBytesMax = 31

/**
 * Pieces of the archive. Sockets and unknown kinds are left out: tar has no form for them.
 * @throws Failure `tree_unsafe` (a name that leads elsewhere), `object_damaged` (a size that is not the content's), …
 */
export async function* tarOf(vault: Vault, root: TreeId, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  for await (const { node, path } of archiveEntries(vault, root, signal)) {
    const type = typeFlags[node.type]
    if (type === undefined) continue
    yield* header(node, `${path}${node.type === 'dir' ? '/' : ''}`, type)
    if (node.type !== 'file') continue
    yield* entryContent(vault, { node, path }, signal)
    yield padding(node.bytes)
  }
  yield Buffer.alloc(blockBytes * 2)
}

function* header(node: TreeNode, path: string, type: string): Generator<Uint8Array> {
  const name = bytesFromName(path)
  const target = node.type === 'symlink' ? bytesFromName(node.target) : Buffer.alloc(0)
  const bytes = node.type === 'file' ? node.bytes : 0
  const seconds = Number(node.mtime / 1_000_000_000n)
  const records: Buffer[] = []
  if (name.length > 100) records.push(paxRecord('path', name))
  if (target.length > 100) records.push(paxRecord('linkpath', target))
  if (bytes > sizeMax) records.push(paxRecord('size', Buffer.from(`${bytes}`)))
  if (node.uid > octalMax) records.push(paxRecord('uid', Buffer.from(`${node.uid}`)))
  if (node.gid > octalMax) records.push(paxRecord('gid', Buffer.from(`${node.gid}`)))
  if (!fits(node.user)) records.push(paxRecord('uname', Buffer.from(node.user)))
  if (!fits(node.group)) records.push(paxRecord('gname', Buffer.from(node.group)))
  if (node.mtime % 1_000_000_000n !== 0n || seconds < 0 || seconds > sizeMax)
    records.push(paxRecord('mtime', Buffer.from(timeText(node.mtime))))
  for (const { name: attribute, value } of node.extendedAttributes) {
    records.push(paxRecord(`SCHILY.xattr.${attributeKey(attribute)}`, Buffer.from(value)))
  }
  if (records.length > 0) {
    const body = Buffer.concat(records)
    yield block({ name: Buffer.from('PaxHeaders/entry'), target: Buffer.alloc(0), node, type: 'x', bytes: body.length })
    yield body
    yield padding(body.length)
  }
  yield block({ name, target, node, type, bytes })
}

/** `length key=value\n`, the length being that of the whole record. */
function paxRecord(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')])
  let length = rest.length + 1
  while (`${length}`.length + rest.length !== length) length = `${length}`.length + rest.length
  return Buffer.concat([Buffer.from(`${length}`), rest])
}

/** The first `=` ends the key: as GNU tar writes it. */
function attributeKey(name: string): string {
  return name.replaceAll('%', '%25').replaceAll('=', '%3D')
}

/** Whether the header has room for the name of a user or group, with the zero that ends it. */
function fits(name: string): boolean {
  return Buffer.byteLength(name) <= nameBytesMax
}

function timeText(time: bigint): string {
  const [sign, nanoseconds] = time < 0n ? ['-', -time] : ['', time]
  const fraction = (nanoseconds % 1_000_000_000n).toString().padStart(9, '0').replace(/0+$/, '')
  return `${sign}${nanoseconds / 1_000_000_000n}${fraction === '' ? '' : `.${fraction}`}`
}

interface Block {
  readonly name: Buffer
  readonly target: Buffer
  readonly node: TreeNode
  readonly type: string
  readonly bytes: number
}

function block({ name, target, node, type, bytes }: Block): Buffer {
  const buffer = Buffer.alloc(blockBytes)
  const octal = (value: number, at: number, width: number, max: number) =>
    buffer.write(
      Math.max(0, value > max ? 0 : value)
        .toString(8)
        .padStart(width - 1, '0'),
      at,
    )
  name.copy(buffer, 0, 0, 100)
  octal(node.permissions, 100, 8, octalMax)
  octal(node.uid, 108, 8, octalMax)
  octal(node.gid, 116, 8, octalMax)
  octal(bytes, 124, 12, sizeMax)
  octal(Number(node.mtime / 1_000_000_000n), 136, 12, sizeMax)
  buffer.fill(' ', 148, 156)
  buffer.write(type, 156)
  target.copy(buffer, 157, 0, 100)
  buffer.write('ustar\u000000', 257, 'latin1')
  // Rather none than the beginning of one, which may be the name of somebody else: the number is there, too.
  buffer.write(fits(node.user) ? node.user : '', 265)
  buffer.write(fits(node.group) ? node.group : '', 297)
  if (node.type === 'dev' || node.type === 'chardev') {
    octal(Number((node.device >> 8n) & 0xfffn), 329, 8, octalMax)
    octal(Number((node.device & 0xffn) | ((node.device >> 12n) & 0xfff00n)), 337, 8, octalMax)
  }
  const sum = buffer.reduce((total, byte) => total + byte, 0)
  buffer.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return buffer
}

function padding(bytes: number): Buffer {
  return Buffer.alloc((blockBytes - (bytes % blockBytes)) % blockBytes)
}
