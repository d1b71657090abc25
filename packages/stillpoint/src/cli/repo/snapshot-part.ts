/** `ID:/folder` in place of a snapshot's id: the folder as if it were all that was saved, as restic since 0.16. */
import { Failure } from '@stillpoint/core/kernel'
import type { Repository, Snapshot, SnapshotSelection } from '@stillpoint/repository'

/** With the folder's tree as its root. @throws Failure `snapshot_absent`, `path_absent`, … */
export async function resolvePart(
  repository: Repository,
  text: string,
  selection: SnapshotSelection,
): Promise<Snapshot> {
  const at = text.indexOf(':')
  if (at < 0) return repository.upkeep.resolveSnapshot(text, selection)
  const snapshot = await repository.upkeep.resolveSnapshot(text.slice(0, at), selection)
  const path = text.slice(at + 1)
  if (path.replaceAll('/', '') === '') return snapshot
  const node = await repository.resolve(snapshot.tree, path)
  if (node.type === 'dir') return { ...snapshot, tree: node.subtree }
  throw new Failure({ code: 'path_absent', message: `${JSON.stringify(path)} is not a directory` })
}
