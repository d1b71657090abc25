/** Owns telling which native libraries this process could load, for who checks a machine before it is relied upon. */
import { extendedAttributesKnown } from './extended-attributes.ts'
import { nativePoly1305 } from './format/poly1305.ts'
import { linuxCalls } from './system-calls/linux-calls.ts'

export interface NativeLibrary {
  /** The package. */
  readonly name: string
  readonly isLoaded: boolean
  /** What it is for, and what becomes of that without it. */
  readonly purpose: string
  readonly without: string
}

/** Loads them, if they were not. */
export function nativeLibraries(): readonly NativeLibrary[] {
  return [process.platform === 'linux' ? systemCalls() : attributes(), authentication()]
}

function systemCalls(): NativeLibrary {
  const isLoaded = linuxCalls() !== undefined
  const attributesToo = extendedAttributesKnown() ? '' : '; extended attributes and ACLs are neither saved nor restored'
  return {
    name: 'koffi',
    isLoaded,
    purpose: 'the calls of Linux that Node does not have: attributes of all names, times to the nanosecond',
    without: `backups take longer, and times are restored to the microsecond${attributesToo}`,
  }
}

function attributes(): NativeLibrary {
  return {
    name: '@napi-rs/xattr',
    isLoaded: extendedAttributesKnown(),
    purpose: 'extended attributes and ACLs are saved and restored',
    without: 'extended attributes and ACLs are neither saved nor restored',
  }
}

function authentication(): NativeLibrary {
  return {
    name: 'sodium-native',
    isLoaded: nativePoly1305() !== undefined,
    purpose: 'authentication codes are computed by libsodium',
    without: 'authentication codes are computed in JavaScript: everything works, many times slower',
  }
}
