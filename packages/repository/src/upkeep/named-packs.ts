/**
 * Owns which index files name which packs, by the numbers that the index has given to them.
 */
import { createBitSet } from '../index-memory/bit-set.ts'
import type { LoadedIndex } from '../loaded-index.ts'

export interface NamedPacks {
  /** Index files in the order of their names. */
  readonly files: readonly string[]
  /** All packs that they name, each once, in the order of the files and of the packs in them. */
  readonly order: Uint32Array
  /** In the order of their names. */
  filesOf(pack: number): readonly string[]
}

export function namedPacks({ files: numbersOf, blobs }: LoadedIndex): NamedPacks {
  const files = [...numbersOf.keys()].sort()
  const order = new Uint32Array(blobs.packs)
  const firstFile = new Uint32Array(blobs.packNumberEnd)
  /** Of the few that several files name, all but the first: an interrupted rewriting of index files leaves them. */
  const otherFiles = new Map<number, string[]>()
  const seen = createBitSet(blobs.packNumberEnd)
  let count = 0
  for (const [at, file] of files.entries()) {
    for (const pack of numbersOf.get(file) ?? []) {
      if (seen.add(pack)) {
        firstFile[pack] = at
        order[count] = pack
        count += 1
        continue
      }
      const others = otherFiles.get(pack) ?? []
      if (files[firstFile[pack] ?? 0] !== file && others.at(-1) !== file) others.push(file)
      otherFiles.set(pack, others)
    }
  }
  return {
    files,
    order: order.subarray(0, count),
    filesOf(pack) {
      const first = seen.has(pack) ? files[firstFile[pack] ?? 0] : undefined
      return first === undefined ? [] : [first, ...(otherFiles.get(pack) ?? [])]
    },
  }
}
