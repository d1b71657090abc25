/** Owns what the index files of a repository say, as a map: for tests. */
import type { PackId } from '../format/ids.ts'
import type { PackEntry } from '../format/pack.ts'
import { listIndexFiles, readIndexFile } from '../upkeep/index-files.ts'
import type { Vault } from '../vault.ts'

export async function entriesByPack(vault: Vault): Promise<Map<PackId, readonly PackEntry[]>> {
  const packs = new Map<PackId, readonly PackEntry[]>()
  for (const name of await listIndexFiles(vault)) {
    for (const { id, entries } of await readIndexFile(vault, name)) packs.set(id, entries)
  }
  return packs
}
