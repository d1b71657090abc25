/** Names that nobody else chooses, and passwords that nobody guesses. */
import type { Entropy } from '@stillpoint/core/kernel'

export function randomHex(entropy: Entropy, bytes: number): string {
  return Buffer.from(filled(entropy, bytes)).toString('hex')
}

/** 192 bits as 32 letters, digits, "-" and "_". */
export function randomPassword(entropy: Entropy): string {
  return Buffer.from(filled(entropy, 24)).toString('base64url')
}

function filled(entropy: Entropy, bytes: number): Uint8Array {
  const target = new Uint8Array(bytes)
  entropy.fill(target)
  return target
}
