/**
 * Reads all data below a tree: each blob is fetched, decrypted and hashed by the repository, so what was read is whole.
 *
 * Owns: the walk, and going on after damage so that all of it is named. A subtree that occurs twice is read once.
 */
import { describeFailure, Failure } from '@stillpoint/core/kernel'
import { type Repository, type TreeId, type TreeNode, unsafeName } from '@stillpoint/repository'

export interface DataRead {
  readonly bytes: number
  readonly files: number
  /** What could not be read, by path. */
  readonly problems: readonly string[]
}

export interface ReadDataOptions {
  readonly signal: AbortSignal
  readonly onProgress?: (progress: { readonly bytes: number; readonly files: number }) => void
}

const problemsMax = 100

export async function readAllData(repository: Repository, root: TreeId, options: ReadDataOptions): Promise<DataRead> {
  const walk = new DataWalk(repository, options)
  await walk.tree(root, '')
  return { bytes: walk.bytes, files: walk.files, problems: walk.problems }
}

class DataWalk {
  bytes = 0
  files = 0
  readonly problems: string[] = []
  readonly #repository: Repository
  readonly #options: ReadDataOptions
  readonly #trees = new Set<TreeId>()
  readonly #contents = new Set<string>()

  constructor(repository: Repository, options: ReadDataOptions) {
    this.#repository = repository
    this.#options = options
  }

  async tree(tree: TreeId, path: string): Promise<void> {
    const open: { readonly tree: TreeId; readonly path: string }[] = [{ tree, path }]
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      if (this.#trees.has(next.tree)) continue
      this.#trees.add(next.tree)
      const at = next.path
      const nodes = await this.#guarded(at, () => this.#repository.readTree(next.tree))
      for (const node of nodes ?? []) {
        const child = at === '' ? node.name : `${at}/${node.name}`
        const unsafe = unsafeName(node.name)
        if (unsafe !== undefined) this.#problem(at, `it has ${unsafe}`)
        if (node.type === 'dir') open.push({ tree: node.subtree, path: child })
        else if (node.type === 'file') await this.#file(node, child)
      }
    }
  }

  async #file(node: Extract<TreeNode, { type: 'file' }>, path: string): Promise<void> {
    this.files += 1
    const key = node.content.length === 1 ? node.content[0] : undefined
    if (key !== undefined && this.#contents.has(key)) return
    await this.#guarded(path, async () => {
      let bytes = 0
      for await (const piece of this.#repository.readFile(node, this.#options.signal)) {
        bytes += piece.length
        this.bytes += piece.length
        this.#options.onProgress?.({ bytes: this.bytes, files: this.files })
      }
      if (bytes !== node.bytes) this.#problem(path, `it has ${bytes} bytes, its tree says ${node.bytes}`)
      if (key !== undefined) this.#contents.add(key)
    })
  }

  async #guarded<T>(path: string, read: () => Promise<T>): Promise<T | undefined> {
    this.#options.signal.throwIfAborted()
    try {
      return await read()
    } catch (error) {
      // Damage is a finding. Everything else (no permission, interrupted) ends the reading.
      const isDamage = error instanceof Failure && (error.code === 'object_damaged' || error.code === 'object_missing')
      if (!isDamage) throw error
      this.#problem(path, describeFailure(error).message)
      return undefined
    }
  }

  #problem(path: string, what: string): void {
    if (this.problems.length < problemsMax) this.problems.push(`${path === '' ? '/' : path}: ${what}`)
  }
}
