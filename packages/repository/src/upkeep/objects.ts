/**
 * Owns looking at what a repository is made of, object by object, decrypted: for who wants to see the format, or to find
 * out what is wrong. As restic's `list` and `cat`.
 */
import { Failure } from '@stillpoint/core/kernel'
import { configObject, type ObjectKind } from '../blob/blob-store.ts'
import { unseal } from '../format/crypto.ts'
import { type BlobType, isId } from '../format/ids.ts'
import { readBlob } from '../load/blob-reader.ts'
import { namingDamage, readDocument, readObject, type Vault } from '../vault.ts'
import { listIndexFiles, readIndexFile } from './index-files.ts'

export type ListedKind = Exclude<ObjectKind, 'config'>

export interface ListedBlob {
  readonly id: string
  readonly type: BlobType
}

/** Ids of all objects of a kind, in no particular order. */
export async function listObjects(vault: Vault, kind: ListedKind): Promise<readonly string[]> {
  return namesWhere(vault, kind, () => true)
}

async function namesWhere(vault: Vault, kind: ListedKind, isIt: (name: string) => boolean): Promise<string[]> {
  const names: string[] = []
  for await (const batch of vault.store.list(kind)) for (const { name } of batch) if (isIt(name)) names.push(name)
  return names
}

/** Each place of each blob that an index file names. */
export async function* listBlobs(vault: Vault): AsyncGenerator<ListedBlob> {
  for (const name of await listIndexFiles(vault)) {
    for (const { entries } of await readIndexFile(vault, name)) yield* entries
  }
}

/** The id that begins so. @throws Failure `object_missing`, `object_ambiguous` */
export async function findObject(vault: Vault, kind: ListedKind, begin: string): Promise<string> {
  if (isId(begin)) return begin
  const found = await namesWhere(vault, kind, (name) => begin !== '' && name.startsWith(begin))
  const [only, ...others] = found
  if (only === undefined) throw new Failure({ code: 'object_missing', message: `there is no ${kind} ${begin}` })
  if (others.length === 0) return only
  throw new Failure({
    code: 'object_ambiguous',
    message: `${found.length} objects of the kind ${kind} begin with ${begin}`,
    hint: 'Give more digits.',
  })
}

/** The JSON of a config, snapshot, index, lock or key; keys as they are stored. */
export async function objectJson(vault: Vault, kind: Exclude<ObjectKind, 'pack'>, name: string): Promise<string> {
  const { store, keys } = vault
  if (kind === 'config') {
    const sealed = await store.get(configObject)
    return namingDamage(store, configObject, async () => unseal(keys, sealed).toString('utf8'))
  }
  const object = { kind, name: await findObject(vault, kind, name) }
  if (kind === 'key') return (await readObject(store, object)).toString('utf8')
  return readDocument(vault, object, (json) => json)
}

/** The bytes of a pack as they are stored; its name was found to be their hash. */
export async function packContent(vault: Vault, name: string): Promise<Buffer> {
  return readObject(vault.store, { kind: 'pack', name: await findObject(vault, 'pack', name) })
}

/** The plaintext of a blob of either type. @throws Failure `object_missing`, `object_damaged` */
export async function blobContent(vault: Vault, id: string): Promise<Buffer> {
  if (!isId(id)) throw new Failure({ code: 'options_invalid', message: `${JSON.stringify(id)} is no id of a blob` })
  return readBlob(vault, id, vault.index.blobs.has(id, 'data') ? 'data' : 'tree')
}
