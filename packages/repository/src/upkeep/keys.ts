/**
 * Owns the keys of a repository: several passwords that open the same master keys.
 *
 * Invariants: 1. the key that opened the repository is removed only after another one has been stored and found to open
 * with its password. 2. No password is kept, logged or part of a message. Changing a password does not change the master keys:
 * who knew the old password and kept a copy of its key file can still open the repository.
 */
import { hostname, userInfo } from 'node:os'
import { Failure, isFailure } from '@stillpoint/core/kernel'
import { listAll } from '../blob/blob-store.ts'
import { confirmDocument } from '../confirm-stored.ts'
import { sound } from '../format/damage.ts'
import { sha256 } from '../format/ids.ts'
import { jsonObject, optionalStringField, parseJson } from '../format/json.ts'
import { decodeKeyFile, encodeKeyFile, openKeyFile, type ScryptCost } from '../format/key-file.ts'
import { parseTimestamp, type Timestamp, timestampFromMs } from '../format/timestamp.ts'
import { namingDamage, readObject, type Vault } from '../vault.ts'

export interface RepositoryKey {
  readonly id: string
  /** It opened this repository. */
  readonly isCurrent: boolean
  readonly username: string
  readonly hostname: string
  readonly created: Timestamp
}

export interface AddKeyOptions {
  /** Bytes, or text that is taken as UTF-8; nothing is trimmed. */
  readonly password: Uint8Array | string
  /** Default: who runs this. */
  readonly username?: string
  readonly hostname?: string
  readonly scryptCost?: ScryptCost
}

/** @throws Failure `object_damaged` unless `onDamaged` takes it */
export async function listKeys(
  vault: Vault,
  onDamaged?: (failure: Failure) => void,
): Promise<readonly RepositoryKey[]> {
  const keys: RepositoryKey[] = []
  for (const { name } of await listAll(vault.store, 'key')) {
    try {
      keys.push(await readKey(vault, name))
    } catch (error) {
      if (isFailure(error, 'object_missing')) continue // removed since it was listed
      if (!isFailure(error, 'object_damaged') || onDamaged === undefined) throw error
      onDamaged(error)
    }
  }
  return keys.sort((left, right) => (left.created < right.created ? -1 : left.created > right.created ? 1 : 0))
}

async function readKey(vault: Vault, name: string): Promise<RepositoryKey> {
  const object = { kind: 'key', name } as const
  const bytes = await readObject(vault.store, object)
  return namingDamage(vault.store, object, async () => {
    const fields = jsonObject(parseJson(bytes.toString('utf8')), 'the key file')
    const created = optionalStringField(fields, 'created')
    sound(created !== undefined, 'it does not say when it was made')
    return {
      id: name,
      isCurrent: name === vault.openedWith.keyName,
      username: optionalStringField(fields, 'username') ?? '',
      hostname: optionalStringField(fields, 'hostname') ?? '',
      created: parseTimestamp(created),
    }
  })
}

/** Returns the new key's id. @throws Failure `key_derivation_failed`, `options_invalid` (an empty password), … */
export async function addKey(vault: Vault, options: AddKeyOptions): Promise<string> {
  const password = typeof options.password === 'string' ? Buffer.from(options.password, 'utf8') : options.password
  if (password.length === 0) {
    throw new Failure({
      code: 'options_invalid',
      message: 'an empty password protects nothing',
      hint: 'Choose another.',
    })
  }
  const owner = {
    username: options.username ?? userInfo().username,
    hostname: options.hostname ?? hostname(),
    created: timestampFromMs(vault.clock.wallMs()),
  }
  const { keys: master, entropy, store } = vault
  const cost = options.scryptCost === undefined ? {} : { cost: options.scryptCost }
  const bytes = await encodeKeyFile({ master, password, owner, entropy, ...cost })
  const name = sha256(bytes)
  await store.put({ kind: 'key', name }, bytes)
  await confirmDocument(vault, { kind: 'key', name })
  const opened = await openKeyFile(decodeKeyFile(await readObject(store, { kind: 'key', name })), password)
  if (opened !== undefined && Buffer.compare(opened.encrypt, master.encrypt) === 0) return name
  await store.delete({ kind: 'key', name })
  throw new Failure({
    code: 'self_check_failed',
    message: 'the new key does not open with its password; it was removed again',
    hint: 'Test the memory of this machine.',
  })
}

/** @param wanted the id or its beginning @throws Failure `key_absent`, `key_ambiguous`, `key_in_use` */
export async function removeKey(vault: Vault, wanted: string): Promise<string> {
  const names = (await listAll(vault.store, 'key')).map(({ name }) => name)
  const [name, second] = /^[0-9a-f]{1,64}$/.test(wanted) ? names.filter((each) => each.startsWith(wanted)) : []
  const shown = JSON.stringify(wanted.slice(0, 80))
  const hint = 'List the keys to see which there are.'
  if (name === undefined) throw new Failure({ code: 'key_absent', message: `there is no key ${shown}`, hint })
  if (second !== undefined) {
    throw new Failure({ code: 'key_ambiguous', message: `several keys begin with ${shown}`, hint: 'Give more digits.' })
  }
  if (name === vault.openedWith.keyName) {
    throw new Failure({
      code: 'key_in_use',
      message: `the key ${name.slice(0, 8)} is the one that opened the repository; it was not removed`,
      hint: 'Open it with another password to remove this key, or change this password.',
    })
  }
  await vault.store.delete({ kind: 'key', name })
  return name
}

/** Adds a key for the new password, then removes the one that opened the repository. Returns the new key's id. */
export async function changePassword(vault: Vault, options: AddKeyOptions): Promise<string> {
  const old = vault.openedWith.keyName
  const name = await addKey(vault, options)
  vault.openedWith.keyName = name
  await vault.store.delete({ kind: 'key', name: old })
  return name
}
