/** Owns reading what is in a pack from the pack itself: its header, by two ranges at its end. */
import { unseal } from '../format/crypto.ts'
import { sound } from '../format/damage.ts'
import type { PackId } from '../format/ids.ts'
import { decodeHeaderLength, decodePackHeader, headerLengthBytes, type PackEntry, packBytes } from '../format/pack.ts'
import { namingDamage, type Vault } from '../vault.ts'

/** @throws Failure `object_damaged`, `object_missing` */
export async function readPackHeader(vault: Vault, pack: PackId, bytes: number): Promise<readonly PackEntry[]> {
  const object = { kind: 'pack', name: pack } as const
  return namingDamage(vault.store, object, async () => {
    sound(bytes > headerLengthBytes, 'the pack is too short')
    const end = bytes - headerLengthBytes
    const tail = await vault.store.get(object, { offset: end, length: headerLengthBytes })
    const length = decodeHeaderLength(tail, bytes)
    const sealed = await vault.store.get(object, { offset: end - length, length })
    const entries = decodePackHeader(unseal(vault.keys, sealed))
    sound(packBytes(entries) === bytes, 'its blobs and its header do not fill it')
    return entries
  })
}
