/** Owns telling which native libraries this process could load, for who checks a machine before it is relied upon. */
import { extendedAttributesKnown } from './extended-attributes.ts'
import { nativePoly1305 } from './format/poly1305.ts'
import { areNativeCallsLoaded, libCrypto, linuxCalls } from './native/native-calls.ts'

export interface NativeLibrary {
  /** The package. */
  readonly name: string
  readonly isLoaded: boolean
  /** What it is for, and what becomes of that without it. */
  readonly purpose: string
  readonly without: string
}

/** Loads them, if they were not. Those that stand in for another one are told of only where that is not there. */
export function nativeLibraries(): readonly NativeLibrary[] {
  return [
    calls(),
    ...(linuxCalls() === undefined ? [attributes()] : []),
    ...(libCrypto() === undefined ? [authentication()] : []),
  ]
}

function calls(): NativeLibrary {
  return {
    name: 'koffi',
    isLoaded: areNativeCallsLoaded(),
    purpose: 'calls of Linux and OpenSSL that Node does not have: a tenth to a quarter faster, times to the nanosecond',
    without: 'everything takes longer, and times are restored to the microsecond',
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
