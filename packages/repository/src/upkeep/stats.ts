/** Owns how much snapshots hold: as they would be restored, as they are stored, by distinct content. restic's modes. */
import { sealOverheadBytes } from '../format/crypto.ts'
import { sha256 } from '../format/ids.ts'
import type { FileNode, TreeNode } from '../format/tree.ts'
import type { Snapshot } from '../load/snapshots.ts'
import type { Vault } from '../vault.ts'
import { type BlobSet, createBlobSet } from './blob-set.ts'
import { walkNodes } from './walk-nodes.ts'
import { reachableBlobs } from './walk-trees.ts'

export const statsModes = ['restore-size', 'files-by-contents', 'raw-data', 'blobs-per-file'] as const
export type StatsMode = (typeof statsModes)[number]

export interface RepositoryStats {
  readonly snapshots: number
  /** Bytes: of files, or of sealed blobs with `raw-data`. */
  readonly totalBytes: number
  /** Entries of all kinds with `restore-size`; distinct contents, or paths with `blobs-per-file`. */
  readonly files: number
  readonly blobs: number
  /** Of the same blobs, sealed and not compressed; `raw-data` only. */
  readonly uncompressedBytes: number | undefined
  /** Those of them that are compressed, as they are stored and as they would be; `raw-data` only. */
  readonly compressed?: { readonly bytes: number; readonly uncompressedBytes: number }
}

export interface StatsOptions {
  readonly mode?: StatsMode
  readonly snapshots: readonly Snapshot[]
  readonly signal?: AbortSignal
}

export async function repositoryStats(vault: Vault, options: StatsOptions): Promise<RepositoryStats> {
  const { mode = 'restore-size', snapshots } = options
  if (mode === 'raw-data') return rawData(vault, options)
  const counted = { snapshots: snapshots.length, totalBytes: 0, files: 0, blobs: 0, uncompressedBytes: undefined }
  const contents = createBlobSet()
  const seen: SeenOfPaths = { paths: createBlobSet(), blobs: createBlobSet() }
  for (const { tree } of snapshots) {
    const inodes = new Set<string>()
    const walk = options.signal === undefined ? {} : { signal: options.signal }
    for await (const { node, path } of walkNodes(vault, tree, walk)) {
      if (mode === 'restore-size') {
        counted.files += 1
        // Further names of a file take no further room.
        if (node.type === 'file' && isFirstName(node, inodes)) counted.totalBytes += node.bytes
      } else if (isNewContent(node, contents)) {
        if (mode === 'files-by-contents') {
          counted.files += 1
          counted.totalBytes += node.type === 'file' ? node.bytes : 0
        } else if (node.type === 'file') addBlobsOf(vault, { node, path, seen, counted })
      }
    }
  }
  return counted
}

function isFirstName(node: TreeNode, inodes: Set<string>): boolean {
  if (node.links <= 1n || node.inode === 0n) return true
  const key = `${node.deviceId}:${node.inode}`
  if (inodes.has(key)) return false
  inodes.add(key)
  return true
}

/** What has no content (directories, links, devices) counts as one, as restic counts it. */
function isNewContent(node: TreeNode, contents: BlobSet): boolean {
  const key = node.type === 'file' ? sha256(Buffer.from(node.content.join(''))) : sha256(Buffer.alloc(0))
  return contents.add(key, 'data')
}

/** By hashes: of paths, and of paths together with ids. */
interface SeenOfPaths {
  readonly paths: BlobSet
  readonly blobs: BlobSet
}

interface PathBlobs {
  readonly node: FileNode
  readonly path: string
  readonly seen: SeenOfPaths
  readonly counted: { files: number; totalBytes: number; blobs: number }
}

/** Each blob counts once for each path that it is part of. */
function addBlobsOf(vault: Vault, { node, path, seen, counted }: PathBlobs): void {
  if (node.content.length === 0) return
  if (seen.paths.add(sha256(Buffer.from(path)), 'data')) counted.files += 1
  for (const id of node.content) {
    const plainBytes = vault.index.blobs.plainBytes(id, 'data')
    if (plainBytes === undefined || !seen.blobs.add(sha256(Buffer.from(`${id}${path}`)), 'data')) continue
    counted.blobs += 1
    counted.totalBytes += plainBytes
  }
}

async function rawData(vault: Vault, { snapshots, signal }: StatsOptions): Promise<RepositoryStats> {
  const roots = snapshots.map(({ id, tree }) => ({ tree, path: `snapshot ${id.slice(0, 8)}:/` }))
  const reached = await reachableBlobs(vault, roots, { abort: () => signal?.throwIfAborted() })
  let totalBytes = 0
  let uncompressedBytes = 0
  const compressed = { bytes: 0, uncompressedBytes: 0 }
  reached.eachFirst((row) => {
    const place = reached.index.rowPlace(row)
    totalBytes += place.length
    const uncompressed = place.plainBytes + sealOverheadBytes
    uncompressedBytes += uncompressed
    if (place.length === uncompressed) return // it is as it was
    compressed.bytes += place.length
    compressed.uncompressedBytes += uncompressed
  })
  return { snapshots: snapshots.length, totalBytes, files: 0, blobs: reached.size, uncompressedBytes, compressed }
}
