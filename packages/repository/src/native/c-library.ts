/**
 * Owns calling functions that are in this process without an addon of our own, by way of koffi: those of the C library, and
 * those of OpenSSL, which Node exports for addons.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'

/** What is used of koffi. */
interface Koffi {
  load(path: null): { func(prototype: string): unknown }
  errno(): number
}

/** Whatever declares a function wrongly writes where it must not: see linux-calls.ts and libcrypto.ts, which are all. */
export interface CLibrary {
  /**
   * A function by its prototype in C. Its arguments are numbers, and views of memory or addresses where it takes pointers;
   * its result is a number, or an address.
   */
  declare<Result extends number | bigint | undefined>(prototype: string): (...values: readonly unknown[]) => Result
  /** Of the last call that failed. */
  errno(): number
}

/** Undefined where koffi has no build for this platform, or is not installed. */
export function loadCLibrary(): CLibrary | undefined {
  try {
    const koffi = loadKoffi()
    const process = koffi.load(null)
    return {
      declare<Result extends number | bigint | undefined>(prototype: string) {
        return process.func(prototype) as (...values: readonly unknown[]) => Result
      },
      errno: () => koffi.errno(),
    }
  } catch {
    // It says so itself: `nativeLibraries`, which `doctor` shows. Everything works without, and takes longer.
    return undefined
  }
}

const require = createRequire(import.meta.url)

/**
 * The binaries of koffi, one package for each platform. The package `koffi` itself would run a script at install, and its
 * modules look for the binary for 6 ms, in each thread.
 */
function loadKoffi(): Koffi {
  const { platform, arch } = process
  const name = `@koromix/koffi-${platform}-${arch}`
  // Alpine's libc is another one: the package tells them apart, which takes 2 ms.
  if (platform === 'linux' && !existsSync('/etc/alpine-release')) {
    try {
      return require(`${name}/${platform}_${arch}/koffi.node`) as Koffi
    } catch {
      // There is none, or it does not load: the package knows whether there is another one.
    }
  }
  return require(name) as Koffi
}
