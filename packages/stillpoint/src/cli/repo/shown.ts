/** Snapshots and entries as JSON of restic's shape, and as lines for people. Pure. */
import type { Snapshot, SnapshotSummary, Timestamp, TreeNode } from '@stillpoint/repository'
import { bytesText, shortId } from '../quantities.ts'
import { type TableOptions, tableLines } from '../table.ts'

/** RFC 3339 with up to nine decimals, in UTC. */
export function timeJson(time: Timestamp): string {
  const second = 1_000_000_000n
  const fraction = ((time % second) + second) % second
  const iso = new Date(Number((time - fraction) / 1_000_000n)).toISOString().slice(0, 19)
  return fraction === 0n ? `${iso}Z` : `${iso}.${fraction.toString().padStart(9, '0').replace(/0+$/, '')}Z`
}

export function timeShown(time: Timestamp): string {
  return timeJson(time).slice(0, 19).replace('T', ' ')
}

export function snapshotJson(snapshot: Snapshot): Readonly<Record<string, unknown>> {
  const { time, parent, tree, paths, hostname, username, uid, gid, excludes, tags, original } = snapshot
  const { programVersion, summary } = snapshot
  return {
    time: timeJson(time),
    ...(parent === undefined ? {} : { parent }),
    tree,
    paths,
    ...(hostname === '' ? {} : { hostname }),
    ...(username === '' ? {} : { username }),
    ...(uid === 0 ? {} : { uid }),
    ...(gid === 0 ? {} : { gid }),
    ...(excludes.length === 0 ? {} : { excludes }),
    ...(tags.length === 0 ? {} : { tags }),
    ...(original === undefined ? {} : { original }),
    ...(programVersion === undefined ? {} : { program_version: programVersion }),
    ...(summary === undefined ? {} : { summary: summaryJson(summary) }),
    id: snapshot.id,
    short_id: shortId(snapshot.id),
  }
}

/** In the order in which it is stored. */
export function summaryJson(summary: SnapshotSummary) {
  return {
    backup_start: timeJson(summary.backupStart),
    backup_end: timeJson(summary.backupEnd),
    files_new: countJson(summary.filesNew),
    files_changed: countJson(summary.filesChanged),
    files_unmodified: countJson(summary.filesUnmodified),
    dirs_new: countJson(summary.dirsNew),
    dirs_changed: countJson(summary.dirsChanged),
    dirs_unmodified: countJson(summary.dirsUnmodified),
    data_blobs: countJson(summary.dataBlobs),
    tree_blobs: countJson(summary.treeBlobs),
    data_added: countJson(summary.dataAdded),
    data_added_packed: countJson(summary.dataAddedPacked),
    total_files_processed: countJson(summary.totalFilesProcessed),
    total_bytes_processed: countJson(summary.totalBytesProcessed),
  }
}

declare global {
  interface JSON {
    /** Of ECMAScript 2026: a number that is written as it is. */
    rawJSON(text: string): object
  }
}

/** Exact, whatever its size. */
function countJson(count: bigint): number | object {
  return count <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(count) : JSON.rawJSON(`${count}`)
}

/** With sizes where any snapshot says its own, as restic since 0.17. */
export function snapshotTable(
  snapshots: readonly Snapshot[],
  options: TableOptions & { readonly reasons?: ReadonlyMap<string, readonly string[]>; readonly compact?: boolean },
): readonly string[] {
  const { reasons, compact = false } = options
  const hasSizes = snapshots.some(({ summary }) => summary !== undefined)
  const columns = [
    { title: 'ID' },
    { title: 'Time' },
    { title: 'Host', shrinkTo: 6 },
    { title: 'Tags', shrinkTo: 6 },
    ...(reasons === undefined || compact ? [] : [{ title: 'Reasons' }]),
    ...(compact ? [] : [{ title: 'Paths', shrinkTo: 10 }]),
    ...(hasSizes ? [{ title: 'Size', align: 'right' as const }] : []),
  ]
  const rows = snapshots.map(({ id, time, hostname, tags, paths, summary }) => [
    shortId(id),
    timeShown(time),
    hostname,
    tags.join(','),
    ...(reasons === undefined || compact ? [] : [(reasons.get(id) ?? []).join(', ')]),
    ...(compact ? [] : [paths.join(', ')]),
    ...(hasSizes ? [summary === undefined ? '' : bytesText(Number(summary.totalBytesProcessed))] : []),
  ])
  return tableLines(columns, rows, options)
}

const typeLetters = 'dalTLDpSugct?'

/** The mode as Go has it, which is what is stored and what restic prints. */
export function goMode(node: TreeNode): number {
  const { permissions } = node
  const special =
    ((permissions & 0o4000) === 0 ? 0 : 2 ** 23) +
    ((permissions & 0o2000) === 0 ? 0 : 2 ** 22) +
    ((permissions & 0o1000) === 0 ? 0 : 2 ** 20)
  return (permissions & 0o777) + special + typeMode(node.type)
}

function typeMode(type: TreeNode['type']): number {
  switch (type) {
    case 'dir':
      return 2 ** 31
    case 'symlink':
      return 2 ** 27
    case 'dev':
      return 2 ** 26
    case 'chardev':
      return 2 ** 26 + 2 ** 21
    case 'fifo':
      return 2 ** 25
    case 'socket':
      return 2 ** 24
    case 'file':
    case 'irregular':
      return 0
  }
}

/** `-rw-r--r--`, as Go writes it. */
export function modeText(mode: number): string {
  const letters = [...typeLetters].filter((_, at) => Math.floor(mode / 2 ** (31 - at)) % 2 === 1).join('')
  const bits = [...'rwxrwxrwx'].map((letter, at) => ((mode & (1 << (8 - at))) === 0 ? '-' : letter)).join('')
  return (letters === '' ? '-' : letters) + bits
}

/** What `ls --json` prints of an entry. */
export function entryJson(node: TreeNode, path: string): Readonly<Record<string, unknown>> {
  const mode = goMode(node)
  return {
    name: node.name,
    type: node.type,
    path,
    uid: node.uid,
    gid: node.gid,
    ...(node.type === 'file' ? { size: node.bytes } : {}),
    ...(mode === 0 ? {} : { mode }),
    permissions: modeText(mode),
    mtime: timeJson(node.mtime),
    atime: timeJson(node.atime),
    ctime: timeJson(node.ctime),
    ...(node.inode === 0n ? {} : { inode: Number(node.inode) }),
    message_type: 'node',
    struct_type: 'node',
  }
}

/** What `find --json` prints of an entry. */
export function matchJson(node: TreeNode, path: string): Readonly<Record<string, unknown>> {
  const mode = goMode(node)
  return {
    path,
    permissions: modeText(mode),
    type: node.type,
    ...(mode === 0 ? {} : { mode }),
    mtime: timeJson(node.mtime),
    atime: timeJson(node.atime),
    ctime: timeJson(node.ctime),
    uid: node.uid,
    gid: node.gid,
    ...(node.user === '' ? {} : { user: node.user }),
    ...(node.group === '' ? {} : { group: node.group }),
    ...(node.inode === 0n ? {} : { inode: Number(node.inode) }),
    ...(node.deviceId === 0n ? {} : { device_id: Number(node.deviceId) }),
    ...(node.type === 'file' && node.bytes > 0 ? { size: node.bytes } : {}),
    ...(node.links === 0n ? {} : { links: Number(node.links) }),
    ...(node.type === 'symlink' ? { linktarget: node.target } : {}),
  }
}

export function longLine(node: TreeNode, path: string, options: { readonly humanReadable?: true } = {}): string {
  const bytes = node.type === 'file' ? node.bytes : 0
  const size = options.humanReadable === true ? bytesText(bytes).padStart(10) : `${bytes}`.padStart(6)
  const numbers = [`${node.uid}`.padStart(5), `${node.gid}`.padStart(5), size].join(' ')
  const target = node.type === 'symlink' ? ` -> ${node.target}` : ''
  return `${modeText(goMode(node))} ${numbers} ${timeShown(node.mtime)} ${path}${target}`
}
