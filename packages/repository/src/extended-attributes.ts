/**
 * Owns reading and writing the extended attributes of a file, a directory or a symbolic link: POSIX ACLs
 * (`system.posix_acl_access`, `…_default`), capabilities and labels (`security.*`), `user.*`, `trusted.*`.
 *
 * Invariants: 1. a symbolic link in the last component is never followed (llistxattr(2) and its sisters). 2. What cannot
 * be asked for, since the file system or this program has no attributes, is empty; what cannot be set is reported.
 *
 * On Linux the system is asked, see linux-calls.ts. Elsewhere a library is, which takes paths as UTF-8 only: of a file or
 * link whose *name* is not, no attributes are read. Where there is no binary of it, none are.
 */
import { isUtf8 } from 'node:buffer'
import { createRequire } from 'node:module'
import { constants } from 'node:os'
import { Failure } from '@stillpoint/core/kernel'
import type { ExtendedAttribute } from './format/tree.ts'
import type { LinuxCalls } from './native/linux-calls.ts'
import { linuxCalls } from './native/native-calls.ts'

/** By path. All throw errors whose number `errnoNumber` knows. */
type AttributeCalls = ReadingCalls<Buffer> & Pick<LinuxCalls, 'setAttribute' | 'removeAttribute'>

/** Loaded when first used: it is a native module, of which a platform may have none. */
let library: AttributeCalls | undefined | 'unknown' = 'unknown'

/** Where the system's own calls are not known. */
function libraryCalls(): AttributeCalls | undefined {
  if (library !== 'unknown') return library
  try {
    const xattr = createRequire(import.meta.url)('@napi-rs/xattr') as typeof import('@napi-rs/xattr')
    library = {
      listAttributes: (path) => xattr.listAttributesSync(text(path)),
      getAttribute: (path, name) => xattr.getAttributeSync(text(path), name) ?? undefined,
      setAttribute: (path, name, value) => xattr.setAttributeSync(text(path), name, value),
      removeAttribute: (path, name) => xattr.removeAttributeSync(text(path), name),
    }
  } catch {
    // It says so itself: `extendedAttributesKnown`, which `doctor` shows.
    library = undefined
  }
  return library
}

const text = (path: Uint8Array) => Buffer.from(path).toString('utf8')

/** Undefined where attributes of this path cannot be asked for. */
function callsFor(path: Buffer): AttributeCalls | undefined {
  return linuxCalls() ?? (isUtf8(path) ? libraryCalls() : undefined)
}

/** Whether extended attributes can be read and written on this platform. */
export function extendedAttributesKnown(): boolean {
  return linuxCalls() !== undefined || libraryCalls() !== undefined
}

export interface AttributesRead {
  readonly attributes: readonly ExtendedAttribute[]
  /** Why some of them could not be read. */
  readonly failure?: Failure
}

const none: AttributesRead = { attributes: [] }
const { errno } = constants
/** The file system has none; some network file systems say that there is no such attribute instead. */
const unsupported: ReadonlySet<number> = new Set([errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENODATA, errno.ENOSYS])
const vanished: ReadonlySet<number> = new Set([errno.ENOENT, errno.ENOTDIR, errno.ELOOP])

/**
 * All attributes, in the order in which the system lists them, as restic stores them. Blocks: it is one system call
 * (3 µs) for a file that has none, which an asynchronous call would make ten times as dear.
 * @param path of a file, directory or link, which is not followed; see `directoryItself`
 */
export function readAttributes(path: Buffer): AttributesRead {
  return readFrom(callsFor(path), path)
}

/** The same of what is open, which is less than a third of the time. `path`: where only that can be asked. */
export function attributesOfOpen(descriptor: number, path: () => Buffer): AttributesRead {
  const calls = linuxCalls()
  return calls === undefined ? readAttributes(path()) : readFrom(calls, descriptor)
}

type ReadingCalls<Owner> = {
  listAttributes(owner: Owner): readonly string[]
  getAttribute(owner: Owner, name: string): Uint8Array | undefined
}

function readFrom<Owner>(calls: ReadingCalls<Owner> | undefined, owner: Owner): AttributesRead {
  if (calls === undefined) return none
  let names: readonly string[]
  try {
    names = calls.listAttributes(owner)
  } catch (error) {
    const number = errnoNumber(error)
    if (unsupported.has(number) || vanished.has(number)) return none
    return { attributes: [], failure: unreadable('extended attributes', error) }
  }
  if (names.length === 0) return none
  const attributes: ExtendedAttribute[] = []
  let failure: Failure | undefined
  for (const name of names) {
    try {
      const value = calls.getAttribute(owner, name)
      if (value !== undefined) attributes.push({ name, value })
    } catch (error) {
      const number = errnoNumber(error)
      if (!unsupported.has(number) && !vanished.has(number)) {
        failure ??= unreadable(`the extended attribute ${JSON.stringify(name)}`, error)
      }
    }
  }
  return failure === undefined ? { attributes } : { attributes, failure }
}

/** A path to an open directory itself, which the calls that do not follow links take for the directory. */
export function directoryItself(child: (name: string) => Buffer): Buffer {
  return child('.')
}

/** Whether what is made in the directory gets an ACL from it. */
export function givesAcl(child: (name: string) => Buffer): boolean {
  return readAttributes(directoryItself(child)).attributes.some(({ name }) => name === 'system.posix_acl_default')
}

export interface AttributeProblem {
  readonly name: string
  readonly failure: Failure
}

/** Labels that the system gives on its own; removing what an old file has of them is not ours to do. */
const systemLabel = /^security\.(selinux|SMACK|apparmor|ima|evm)/i

/** Which attributes are given and taken away, by name. */
export type SelectAttribute = (name: string) => boolean

/**
 * Gives a file these attributes and no others. What is there already with the same value is not written again.
 * Returns what could not be done; the rest is.
 * @param selects all by default; what it does not select is neither given nor taken away
 */
export function writeAttributes(
  path: Buffer,
  all: readonly ExtendedAttribute[],
  selects: SelectAttribute = () => true,
): readonly AttributeProblem[] {
  const calls = callsFor(path)
  const wanted = all.filter(({ name }) => selects(name))
  if (calls === undefined) {
    const reason = extendedAttributesKnown() ? 'its name is not UTF-8' : 'this platform has no library for them'
    return wanted.map(({ name }) => ({ name, failure: unwritable(name, reason) }))
  }
  const there = new Map(readAttributes(path).attributes.map(({ name, value }) => [name, value]))
  const problems: AttributeProblem[] = []
  const attempt = (name: string, action: () => void) => {
    try {
      action()
    } catch (error) {
      problems.push({ name, failure: unwritable(name, reasonOf(error), error) })
    }
  }
  for (const { name, value } of wanted) {
    const old = there.get(name)
    there.delete(name)
    if (old !== undefined && Buffer.from(value).equals(old)) continue
    attempt(name, () => calls.setAttribute(path, name, value))
  }
  for (const name of there.keys()) {
    if (selects(name) && !systemLabel.test(name)) attempt(name, () => calls.removeAttribute(path, name))
  }
  return problems
}

/** The library puts the number into the message only: `… (os error 95)`. 0 where there is none. */
function errnoNumber(error: unknown): number {
  if (error instanceof Error && 'errno' in error && typeof error.errno === 'number') return -error.errno
  const [, digits = '0'] = error instanceof Error ? (/\(os error (\d+)\)/.exec(error.message) ?? []) : []
  return Number(digits)
}

function reasonOf(error: unknown): string {
  const number = errnoNumber(error)
  if (number === errno.ENOTSUP || number === errno.EOPNOTSUPP) return 'the file system does not take it'
  if (number === errno.EPERM || number === errno.EACCES) return 'permission denied'
  if (number === errno.E2BIG || number === errno.ERANGE || number === errno.ENOSPC)
    return 'it is too large for the file system'
  return error instanceof Error ? error.message : String(error)
}

function unreadable(what: string, cause: unknown): Failure {
  const message = `${what} cannot be read: ${reasonOf(cause)}`
  const hint = 'Run as a user who may read them; the content is saved without.'
  return new Failure({ code: 'attribute_unreadable', message, hint, cause })
}

function unwritable(name: string, reason: string, cause?: unknown): Failure {
  const message = `the extended attribute ${JSON.stringify(name)} cannot be set: ${reason}`
  const hint = 'Restore as root, to a file system that has extended attributes and ACLs; the content is restored.'
  return new Failure({ code: 'attribute_not_restored', message, hint, cause })
}
