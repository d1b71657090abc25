/**
 * The parts of one participant in a snapshot, read from the repository: what a source restores from and verifies with.
 *
 * Owns: finding a part by its name. Does not own: that content is what was stored; the repository checks each blob.
 */
import { createHash } from 'node:crypto'
import { chmod, lchown, lutimes } from 'node:fs/promises'
import { Failure, participantName } from '@stillpoint/core/kernel'
import {
  type DirNode,
  type Repository,
  type TreeId,
  type TreeNode,
  unsafeName,
  writeAttributes,
} from '@stillpoint/repository'
import type { Parts } from '../sources/source.ts'

type Reader = Pick<Repository, 'readTree' | 'readFile' | 'loadDirectory'>

/**
 * @param note is told what this system cannot restore (extended attributes, sockets)
 * @throws Failure `name_invalid` (a name that no sink has written), and those of the repository
 */
export async function openStoredParts(
  repository: Reader,
  tree: TreeId,
  note: (text: string) => void = () => {},
): Promise<Parts> {
  const nodes = new Map<string, TreeNode>()
  for (const node of await repository.readTree(tree)) nodes.set(participantName(node.name), node)
  return new StoredParts({ repository, nodes, note })
}

interface StoredPartsOptions {
  readonly repository: Reader
  readonly nodes: ReadonlyMap<string, TreeNode>
  readonly note: (text: string) => void
}

class StoredParts implements Parts {
  readonly #repository: Reader
  readonly #nodes: ReadonlyMap<string, TreeNode>
  readonly #note: (text: string) => void

  constructor({ repository, nodes, note }: StoredPartsOptions) {
    this.#repository = repository
    this.#nodes = nodes
    this.#note = note
  }

  names(): readonly string[] {
    return [...this.#nodes.keys()]
  }

  async *file(name: string, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const node = this.#nodes.get(name)
    if (node?.type !== 'file') throw missing(name)
    yield* this.#repository.readFile(node, signal)
  }

  async directory(name: string, target: string, signal: AbortSignal): Promise<{ bytes: number; files: number }> {
    const node = this.#directory(name)
    const { bytes, files, skipped } = await this.#repository.loadDirectory(node.subtree, target, { signal })
    for (const { path, reason } of skipped) this.#note(`${name}/${path} is not restored: ${reason}`)
    // The directory itself is not in its tree. Last, for what is written into it changes its time.
    if (process.getuid?.() === 0) await lchown(target, node.uid, node.gid)
    for (const { failure } of writeAttributes(Buffer.from(`${target}/.`), node.extendedAttributes)) {
      this.#note(`${name}: ${failure.message}`)
    }
    await chmod(target, node.permissions)
    await lutimes(target, seconds(node.atime), seconds(node.mtime))
    return { bytes, files }
  }

  async *entries(
    name: string,
    signal: AbortSignal,
  ): AsyncIterable<{ path: string; type: string; bytes: number; sha256?: string }> {
    const open: { readonly tree: TreeId; readonly prefix: string }[] = [
      { tree: this.#directory(name).subtree, prefix: '' },
    ]
    yield { path: '', type: 'directory', bytes: 0 }
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      for (const node of await this.#repository.readTree(next.tree)) {
        signal.throwIfAborted()
        checkName(node.name)
        const path = `${next.prefix}${node.name}`
        if (node.type === 'dir') {
          open.push({ tree: node.subtree, prefix: `${path}/` })
          yield { path, type: 'directory', bytes: 0 }
        } else if (node.type === 'file') {
          yield { path, type: 'file', bytes: node.bytes, sha256: await this.#sha256(node, signal) }
        } else yield { path, type: node.type === 'symlink' ? 'symlink' : 'other', bytes: 0 }
      }
    }
  }

  #directory(name: string): DirNode {
    const node = this.#nodes.get(name)
    if (node?.type !== 'dir') throw missing(name)
    return node
  }

  async #sha256(node: Extract<TreeNode, { type: 'file' }>, signal: AbortSignal): Promise<string> {
    const hash = createHash('sha256')
    for await (const piece of this.#repository.readFile(node, signal)) hash.update(piece)
    return hash.digest('hex')
  }
}

/** To the microsecond: a number has no room for nanoseconds since 1970. */
function seconds(time: bigint): number {
  return Number(time / 1000n) / 1e6
}

function checkName(name: string): void {
  const reason = unsafeName(name)
  if (reason === undefined) return
  const hint = 'The snapshot was not made by this program, or has been changed. Choose another one.'
  throw new Failure({ code: 'path_unsafe', message: `a stored directory has ${reason}`, hint })
}

function missing(name: string): Failure {
  return new Failure({
    code: 'part_missing',
    message: `there is no part ${JSON.stringify(name)} in the snapshot`,
    hint: 'The snapshot was made by another kind of source, or by a newer version.',
  })
}
