/**
 * Owns how what is written into a repository is packed: the choices of who opened it. What is read may be packed otherwise.
 * The words and their meaning are restic's.
 */
import { Failure } from '@stillpoint/core/kernel'

/**
 * `auto`: quickly, and not where a sample says that nothing is won. `off`: data as it is; trees and documents are
 * compressed all the same. `max`: as small as can be, slower. `fastest` and `better`: as `auto`, a bit faster or smaller.
 */
export type CompressionMode = 'auto' | 'off' | 'fastest' | 'better' | 'max'

export interface WriteSettings {
  readonly compression: CompressionMode
  /** A pack is stored when it has so many bytes or more. */
  readonly packBytes: number
  /** Each blob is read back from where it lies in its pack before that is stored. */
  readonly selfCheck: boolean
}

export const packBytesDefault = 16 << 20
/** restic's bounds: smaller packs are too many files, larger ones take memory. */
export const packBytesBounds = { min: 4 << 20, max: 128 << 20 } as const

/** @throws Failure `options_invalid` */
export function writeSettings(options: Partial<WriteSettings>): WriteSettings {
  const { compression = 'auto', packBytes = packBytesDefault, selfCheck = true } = options
  const { min, max } = packBytesBounds
  if (Number.isInteger(packBytes) && packBytes >= min && packBytes <= max) return { compression, packBytes, selfCheck }
  throw new Failure({
    code: 'options_invalid',
    message: `packs of ${packBytes} bytes are not made: from ${min >> 20} to ${max >> 20} MiB`,
  })
}
