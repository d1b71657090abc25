/**
 * A listing in the format that `ncdu -f` reads, as restic 0.17 writes it: https://dev.yorhel.nl/ncdu/jsonfmt, version 1.2.
 * Directories are arrays that begin with the directory's own object.
 *
 * Owns: nesting what comes as a row of paths, and which fields there are. Does not own: what is listed.
 *
 * Invariants: 1. Memory is bounded by the depth of the tree. 2. What ncdu 1.18 refuses (it then reads nothing of the whole
 * listing) is not written: the field is left out, since all but the name may be missing.
 */
import type { Snapshot, Timestamp, TreeNode } from '@stillpoint/repository'
import { snapshotJson } from './shown.ts'

export interface ListedEntry {
  readonly path: string
  readonly node: TreeNode
}

const second = 1_000_000_000n
const blockBytes = 512
/** What is gathered before it is given out. */
const pieceCharacters = 1 << 16

/** Entries in the order of a walk: each directory before what is in it. */
export async function* ncduListing(
  snapshot: Snapshot,
  entries: AsyncIterable<ListedEntry> | Iterable<ListedEntry>,
): AsyncGenerator<Uint8Array> {
  const about = { ...snapshotJson(snapshot), progname: 'stillpoint', timestamp: Number(secondsOf(snapshot.time)) }
  let text = `[1, 2, ${JSON.stringify(about)}, [{"name":"/"}`
  /** Lengths of the paths, ending with "/", of the directories whose arrays are open: each longer than the one before. */
  const open = [1]
  for await (const { path, node } of entries) {
    const folderLength = path.length - node.name.length
    for (; (open.at(-1) ?? 0) > folderLength; open.pop()) text += ']'
    text += ',\n'
    text += node.type === 'dir' ? `[${entryText(node)}` : entryText(node)
    if (node.type === 'dir') open.push(path.length + 1)
    if (text.length < pieceCharacters) continue
    yield Buffer.from(text, 'utf8')
    text = ''
  }
  yield Buffer.from(`${text}${']'.repeat(open.length)}]\n`, 'utf8')
}

function entryText(node: TreeNode): string {
  const bytes = node.type === 'file' ? node.bytes : 0
  const mtime = secondsOf(node.mtime)
  const fields = [
    `"name":${nameText(node.name)}`,
    `"asize":${bytes}`,
    `"dsize":${Math.ceil(bytes / blockBytes) * blockBytes}`,
    `"dev":${node.deviceId}`,
    `"ino":${node.inode}`,
    ...upTo(0xffff_ffffn, 'nlink', node.links),
    `"notreg":${node.type !== 'dir' && node.type !== 'file'}`,
    ...upTo(0x7fff_ffffn, 'uid', BigInt(node.uid)),
    ...upTo(0x7fff_ffffn, 'gid', BigInt(node.gid)),
    `"mode":${node.permissions}`,
    ...(mtime < 0n ? [] : [`"mtime":${mtime}`]),
  ]
  return `{${fields.join(',')}}`
}

function upTo(most: bigint, name: string, value: bigint): readonly string[] {
  return value > most ? [] : [`"${name}":${value}`]
}

/** As Go writes a string, with U+FFFD for each byte that is not UTF-8; so for what would end a name before its end, too. */
function nameText(name: string): string {
  return JSON.stringify(name === '' ? '\ufffd' : name.toWellFormed().replaceAll('\0', '\ufffd'))
}

/** Rounded down. */
function secondsOf(time: Timestamp): bigint {
  return (time - (((time % second) + second) % second)) / second
}
