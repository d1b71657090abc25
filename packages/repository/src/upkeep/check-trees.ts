/**
 * Owns checking what snapshots refer to: every tree is there and can be restored, every blob of every file is in the index,
 * and files have the bytes that they should have. Each tree is read once.
 * Does not own how problems are noted, nor the data itself.
 *
 * Invariants: 1. what a restore refuses is a problem: names that lead elsewhere, directories that are nested too deep, more
 * entries than any file system holds. 2. Of a tree that is damaged or not safe, nothing is checked but that.
 */
import { Failure, type TreeId } from '@stillpoint/core/kernel'
import { bytesFromName } from '../format/node-name.ts'
import { unsafeName } from '../format/tree.ts'
import { readTree } from '../load/blob-reader.ts'
import { requireSafeNames, unsafe } from '../load/tree-survey.ts'
import type { Vault } from '../vault.ts'
import { createBlobSet } from './blob-set.ts'
import { entriesMax, treeDepthMax } from './bounded-tree.ts'
import type { ReachedBlobs } from './reached-blobs.ts'
import { idOfDigits, type ScannedFile, scanTree } from './scan-tree.ts'
import { createTreeExtents } from './tree-extents.ts'
import { eachWaiting, type TreeRoot } from './walk-trees.ts'

export interface TreesCheck {
  /** Runs a part of the check; what it finds wrong is noted there, with the path. */
  readonly noting: (part: () => Promise<void>, path: string) => Promise<boolean>
  readonly report: (problem: Failure) => void
  /** Takes every blob that is met, trees among them. */
  readonly reached: ReachedBlobs | undefined
  readonly onTree: (done: number) => void
}

/** Returns how many trees there are. */
export async function checkTrees(vault: Vault, roots: readonly TreeRoot[], check: TreesCheck): Promise<number> {
  const seen = createBlobSet()
  const extents = createTreeExtents()
  const waiting: TreeRoot[] = roots.filter(({ tree }) => seen.add(tree, 'tree'))
  let done = 0
  await eachWaiting(vault, waiting, async ({ tree, path }) => {
    let [entries, folders]: [number, readonly number[]] = [0, []]
    check.reached?.add(tree, 'tree')
    await check.noting(async () => {
      const found = await checkTree(vault, { tree, path }, check)
      entries = found.entries
      folders = found.folders.map((below) => {
        if (seen.add(below.tree, 'tree')) waiting.push(below)
        return seen.rowOf(below.tree, 'tree')
      })
    }, path)
    extents.tell(seen.rowOf(tree, 'tree'), entries, folders)
    done += 1
    check.onTree(done)
  })
  for (const { tree, path } of roots) {
    const { depth = 0, entries = 0 } = extents.of(seen.rowOf(tree, 'tree')) ?? {}
    await check.noting(async () => {
      if (depth > treeDepthMax) throw unsafe(tree, `directories nested deeper than ${treeDepthMax}`)
      if (entries > entriesMax) throw unsafe(tree, `${entries} entries, more than any file system holds`)
    }, path)
  }
  return seen.size
}

interface FoundTree {
  readonly entries: number
  readonly folders: readonly TreeRoot[]
}

async function checkTree(vault: Vault, { tree, path }: TreeRoot, check: TreesCheck): Promise<FoundTree> {
  const names = createNameOrder(tree)
  const problems: Failure[] = []
  const folders: TreeRoot[] = []
  let entries = 0
  await scanTree(vault, tree, (node) => {
    entries += 1
    names.add(node.name)
    if (node.type === 'dir') folders.push({ tree: node.subtree, path: `${path}${node.name}/` })
    if (node.type === 'file') checkContent({ vault, path, problems, reached: check.reached }, node)
    if (node.type === 'irregular') problems.push(unknownKind(`${path}${node.name}`))
  })
  // Sound programs sort them: then two that are equal are neighbours. Of others all names have to be looked at together.
  if (!names.isAscending()) requireSafeNames(tree, await readTree(vault, tree))
  for (const problem of problems) check.report(problem)
  return { entries, folders }
}

function createNameOrder(tree: TreeId): { add(name: string): void; isAscending(): boolean } {
  let last = ''
  let isLastAscii = true
  let isAscending = true
  return {
    add(name) {
      const reason = unsafeName(name)
      if (reason !== undefined) throw unsafe(tree, reason)
      const isAscii = ascii.test(name)
      // By bytes: two strings may stand for the same, and code units have another order.
      isAscending &&= isAscii && isLastAscii ? last < name : bytesFromName(last).compare(bytesFromName(name)) < 0
      last = name
      isLastAscii = isAscii
    },
    isAscending: () => isAscending,
  }
}

const ascii = /^[\x20-\x7e]*$/

/** As restic: some of its old versions have saved what they had no kind for. */
function unknownKind(path: string): Failure {
  const message = `${path} is of no kind that can be restored`
  return new Failure({ code: 'object_damaged', message, hint: 'stillpoint repo repair snapshots leaves it out.' })
}

interface ContentCheck {
  readonly vault: Vault
  /** Of the directory. */
  readonly path: string
  readonly problems: Failure[]
  readonly reached: ReachedBlobs | undefined
}

function checkContent(check: ContentCheck, { name, bytes: expected, content }: ScannedFile): void {
  const { vault, path, problems, reached } = check
  const { blobs } = vault.index
  let bytes = 0
  let whole = true
  for (let at = 0; at < content.count; at += 1) {
    const digits = content.digits(at)
    const length = blobs.plainBytesOfDigits(digits)
    reached?.addDigits(digits)
    if (length === undefined) {
      whole = false
      const message = `data blob ${idOfDigits(digits)} of ${path}${name} is in no index`
      problems.push(new Failure({ code: 'object_missing', message }))
    }
    bytes += length ?? 0
  }
  if (!whole || bytes === expected) return
  const message = `${path}${name} should have ${expected} bytes, but its content has ${bytes}`
  problems.push(new Failure({ code: 'object_damaged', message }))
}
