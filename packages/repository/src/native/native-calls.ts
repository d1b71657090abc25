/** Owns what of native calls this thread has: loaded at once, when first asked for, where it may be (load-gate.ts). */
import { loadCLibrary } from './c-library.ts'
import { type LibCrypto, loadLibCrypto } from './libcrypto.ts'
import { type LinuxCalls, loadLinuxCalls } from './linux-calls.ts'
import { loadThroughGate } from './load-gate.ts'

export interface NativeCalls {
  /** Whether the library that calls them was loaded. */
  readonly isLoaded: boolean
  /** Undefined where the platform is another one, or refuses the calls. */
  readonly linux: LinuxCalls | undefined
  /** Undefined where Node has another library. */
  readonly crypto: LibCrypto | undefined
}

const none: NativeCalls = { isLoaded: false, linux: undefined, crypto: undefined }
let known: NativeCalls | undefined

function nativeCalls(): NativeCalls {
  known ??= loadThroughGate(load) ?? none
  return known
}

function load(): NativeCalls {
  const library = loadCLibrary()
  if (library === undefined) return none
  return { isLoaded: true, linux: loadLinuxCalls(library), crypto: loadLibCrypto(library) }
}

export const areNativeCallsLoaded = (): boolean => nativeCalls().isLoaded

export const linuxCalls = (): LinuxCalls | undefined => nativeCalls().linux

export const libCrypto = (): LibCrypto | undefined => nativeCalls().crypto
