/**
 * Owns key files: a JSON document in the clear that wraps the repository's master keys under a password, by scrypt
 * (RFC 7914). A repository may have several; each opens with its own password. Field order is restic's.
 */
import { scrypt } from 'node:crypto'
import { type Entropy, Failure } from '@stillpoint/core/kernel'
import { type CryptKeys, keysFromBytes, seal, unseal } from './crypto.ts'
import { DamageError, sound } from './damage.ts'
import { bytesField, countField, jsonObject, jsonString, parseJson, stringField } from './json.ts'
import { formatTimestamp, type Timestamp } from './timestamp.ts'

/** Cost of scrypt: memory is 128·n·r bytes, time grows with n·r·p. */
export interface ScryptCost {
  readonly n: number
  readonly r: number
  readonly p: number
}

/** 32 MiB, about 0.3 s: of the costs that OWASP's Password Storage Cheat Sheet calls equal, the one nearest to restic's. */
export const scryptCostDefault: ScryptCost = { n: 32768, r: 8, p: 3 }
/** A key file is not trusted before it has opened: without a bound it could ask for all memory. */
const scryptMemoryBytesMax = 1 << 30
const scryptParallelMax = 64
const saltBytes = 64

export interface KeyFile {
  readonly cost: ScryptCost
  readonly salt: Uint8Array
  /** The master keys, sealed under the password. */
  readonly data: Uint8Array
}

export interface KeyFileOwner {
  readonly username: string
  readonly hostname: string
  readonly created: Timestamp
}

export async function encodeKeyFile(options: {
  readonly master: CryptKeys
  readonly password: Uint8Array
  readonly owner: KeyFileOwner
  readonly entropy: Entropy
  readonly cost?: ScryptCost
}): Promise<Buffer> {
  const { master, owner, cost = scryptCostDefault } = options
  const salt = new Uint8Array(saltBytes)
  options.entropy.fill(salt)
  const wrapping = await deriveKeys(options.password, salt, cost)
  const data = seal(wrapping, Buffer.from(encodeMaster(master)), options.entropy)
  const fields = [
    `"created":${jsonString(formatTimestamp(owner.created))}`,
    `"username":${jsonString(owner.username)}`,
    `"hostname":${jsonString(owner.hostname)}`,
    `"kdf":"scrypt"`,
    `"N":${cost.n},"r":${cost.r},"p":${cost.p}`,
    `"salt":"${Buffer.from(salt).toString('base64')}"`,
    `"data":"${data.toString('base64')}"`,
  ]
  return Buffer.from(`{${fields.join(',')}}`)
}

/** @throws DamageError */
export function decodeKeyFile(bytes: Uint8Array): KeyFile {
  const object = jsonObject(parseJson(Buffer.from(bytes).toString('utf8')), 'the key file')
  sound(stringField(object, 'kdf') === 'scrypt', 'the key derivation is not scrypt')
  const cost = { n: countField(object, 'N'), r: countField(object, 'r'), p: countField(object, 'p') }
  const powerOfTwo = cost.n > 1 && Number.isInteger(Math.log2(cost.n))
  sound(powerOfTwo && cost.r > 0 && cost.p > 0, 'the parameters of scrypt are out of range')
  sound(
    128 * cost.n * cost.r <= scryptMemoryBytesMax && cost.p <= scryptParallelMax,
    'the parameters of scrypt ask for more than 1 GiB',
  )
  return { cost, salt: bytesField(object, 'salt'), data: bytesField(object, 'data') }
}

/** The master keys, or undefined where the password is not this key's. @throws DamageError */
export async function openKeyFile(file: KeyFile, password: Uint8Array): Promise<CryptKeys | undefined> {
  const wrapping = await deriveKeys(password, file.salt, file.cost)
  let plaintext: Buffer
  try {
    plaintext = unseal(wrapping, file.data)
  } catch (error) {
    if (error instanceof DamageError) return undefined
    throw error
  }
  const master = jsonObject(parseJson(plaintext.toString('utf8')), 'the master key')
  const mac = jsonObject(master['mac'], 'the field mac')
  return { encrypt: bytesField(master, 'encrypt', 32), macK: bytesField(mac, 'k', 16), macR: bytesField(mac, 'r', 16) }
}

function encodeMaster(keys: CryptKeys): string {
  const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64')
  return `{"mac":{"k":"${base64(keys.macK)}","r":"${base64(keys.macR)}"},"encrypt":"${base64(keys.encrypt)}"}`
}

function deriveKeys(password: Uint8Array, salt: Uint8Array, cost: ScryptCost): Promise<CryptKeys> {
  const limits = { N: cost.n, r: cost.r, p: cost.p, maxmem: 2 * scryptMemoryBytesMax }
  return new Promise((resolve, reject) => {
    scrypt(password, salt, 64, limits, (error, bytes) => {
      if (error === null) return resolve(keysFromBytes(bytes))
      const message = 'the key could not be derived from the password'
      reject(new Failure({ code: 'key_derivation_failed', message, retry: 'later', cause: error }))
    })
  })
}
