/**
 * Where things are in a snapshot's tree (docs/format/snapshot.md):
 *
 *   stillpoint.json  certificate.json
 *   participants/<store>/<part>            what a source captured
 *   participants/<process>/state/<part>    what the SDK's hook returned
 *   channels/<from→to>/messages.ndjson     messages in flight, one `RecordedMessage` per line
 *
 * Owns: the names, and finding what they name. Does not own: the documents' content.
 */
import { type ChannelId, channelEnds, Failure, isFailure, type ParticipantName } from '@stillpoint/core/kernel'
import type { DirNode, FileNode, Repository, TreeId, TreeNode } from '@stillpoint/repository'

export const summaryFile = 'stillpoint.json'
export const certificateFile = 'certificate.json'
export const participantsDir = 'participants'
export const channelsDir = 'channels'
export const stateDir = 'state'
export const messagesFile = 'messages.ndjson'

type Reader = Pick<Repository, 'readTree' | 'resolve' | 'readFile'>

/** The entries of a directory, none where it is not there. */
export async function entriesAt(repository: Reader, root: TreeId, path: string): Promise<readonly TreeNode[]> {
  let node: TreeNode
  try {
    node = await repository.resolve(root, path)
  } catch (error) {
    if (isFailure(error, 'path_absent')) return []
    throw error
  }
  return node.type === 'dir' ? repository.readTree(node.subtree) : []
}

/** @throws Failure `snapshot_damaged` */
export async function directoryAt(repository: Reader, root: TreeId, path: string): Promise<DirNode> {
  const node = await repository.resolve(root, path).catch((cause: unknown) => {
    throw isFailure(cause, 'path_absent') ? incomplete(path, cause) : cause
  })
  if (node.type !== 'dir') throw incomplete(path, undefined)
  return node
}

/** @throws Failure `snapshot_damaged` */
export async function fileAt(repository: Reader, root: TreeId, path: string): Promise<FileNode> {
  const node = await repository.resolve(root, path).catch((cause: unknown) => {
    throw isFailure(cause, 'path_absent') ? incomplete(path, cause) : cause
  })
  if (node.type !== 'file') throw incomplete(path, undefined)
  return node
}

/** A small document as a whole. @throws Failure `snapshot_damaged` when it is larger than `bytesMax` */
export async function readDocument(
  repository: Reader,
  root: TreeId,
  { path, bytesMax }: { readonly path: string; readonly bytesMax: number },
): Promise<Buffer> {
  const node = await fileAt(repository, root, path)
  const pieces: Uint8Array[] = []
  let bytes = 0
  for await (const piece of repository.readFile(node)) {
    bytes += piece.length
    if (bytes > bytesMax) throw incomplete(`${path} (larger than ${bytesMax} bytes)`, undefined)
    pieces.push(piece)
  }
  return Buffer.concat(pieces)
}

/** The channels to a process that have recorded messages. */
export async function channelsTo(
  repository: Reader,
  root: TreeId,
  receiver: ParticipantName,
): Promise<readonly ChannelId[]> {
  const channels: ChannelId[] = []
  for (const { name, type } of await entriesAt(repository, root, channelsDir)) {
    const channel = name as ChannelId
    // `channelEnds` refuses what was not made by `channelId`.
    if (type === 'dir' && channelEnds(channel).to === receiver) channels.push(channel)
  }
  return channels
}

function incomplete(path: string, cause: unknown): Failure {
  return new Failure({
    code: 'snapshot_damaged',
    message: `The snapshot is not as Stillpoint writes it: ${path} is missing or of another kind`,
    hint: 'It was not made by this program, or has been changed. Choose another snapshot.',
    cause,
  })
}
