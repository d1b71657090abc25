/**
 * The token that lets in: who has it may do all that the server may do.
 *
 * Owns: its making, its file, its comparison, and the proof by which a server shows that it has it without telling it.
 *
 * Invariants:
 * - The token is in its file (0600), in request headers and in memory; never in a URL, a log, a message or an argument.
 * - Comparisons take the same time wherever the difference is.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { constants } from 'node:fs'
import { link, open, unlink } from 'node:fs/promises'
import { type Entropy, Failure } from '@stillpoint/core/kernel'
import { isErrno } from './errno.ts'

const tokenBytes = 32
const tokenPattern = /^[0-9a-f]{64}$/

/**
 * Reads the token, or makes one when there is none. Two that make one at the same time get the same one.
 * @throws Failure `token_file_too_open`, `token_file_damaged`, `token_file_unreadable`
 */
export async function obtainToken(path: string, entropy: Entropy): Promise<string> {
  const existing = await readToken(path)
  if (existing !== undefined) return existing
  const bytes = new Uint8Array(tokenBytes)
  entropy.fill(bytes)
  const token = Buffer.from(bytes).toString('hex')
  const suffix = new Uint8Array(8)
  entropy.fill(suffix)
  const draft = `${path}.${Buffer.from(suffix).toString('hex')}`
  const file = await open(draft, 'wx', 0o600)
  try {
    await file.writeFile(`${token}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  try {
    // A link, not a rename: it fails when somebody else was first, and then theirs is the token.
    await link(draft, path)
    return token
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error
    const theirs = await readToken(path)
    if (theirs === undefined) throw unreadable(path, error)
    return theirs
  } finally {
    await unlink(draft)
  }
}

/**
 * The token in this file, or undefined when there is no such file.
 * @throws Failure `token_file_too_open`, `token_file_damaged`, `token_file_unreadable`
 */
export async function readToken(path: string): Promise<string | undefined> {
  let text: string
  try {
    // O_NOFOLLOW: whoever can put a link here must not choose what is used as the token. O_NONBLOCK: no FIFO holds us.
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    try {
      const stat = await file.stat()
      if (!stat.isFile()) throw new Error('it is not a regular file')
      if ((stat.mode & 0o077) !== 0) throw tooOpen(path, stat.mode)
      const uid = process.getuid?.() ?? 0
      if (uid !== 0 && stat.uid !== uid) throw new Error('it belongs to another user')
      if (stat.size > 1_024) throw damaged(path)
      text = await file.readFile('utf8')
    } finally {
      await file.close()
    }
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    if (error instanceof Failure) throw error
    throw unreadable(path, error)
  }
  const token = text.trim()
  if (!tokenPattern.test(token)) throw damaged(path)
  return token
}

function tooOpen(path: string, mode: number): Failure {
  return new Failure({
    code: 'token_file_too_open',
    message: `Other users can read or write the token file ${path} (mode ${(mode & 0o777).toString(8)})`,
    hint: `Delete it while no server runs: the next start makes a new one. If nobody can have read it, run: chmod 600 ${JSON.stringify(path)}`,
  })
}

function damaged(path: string): Failure {
  return new Failure({
    code: 'token_file_damaged',
    message: `The token file ${path} does not hold a token of 64 hexadecimal digits`,
    hint: 'Delete it while no server runs: the next start makes a new one.',
  })
}

function unreadable(path: string, cause: unknown): Failure {
  const why = cause instanceof Error ? cause.message : String(cause)
  return new Failure({
    code: 'token_file_unreadable',
    message: `The token file ${path} cannot be read: ${why}`,
    hint: 'Run the command as the user who runs the server.',
    cause,
  })
}

/** Whether an `authorization` header carries this token. */
export function isAuthorized(header: string | undefined, token: string): boolean {
  const given = /^Bearer +([!-~]{1,512})$/i.exec(header ?? '')?.[1] ?? ''
  // Digests are of one length, as timingSafeEqual wants them, and tell nothing about the length of what was given.
  return timingSafeEqual(sha256(given), sha256(token))
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

export const challengePattern = /^[0-9a-f]{32,128}$/

/**
 * Shows to whoever has the token that this server has it too. Without it, a program that took over the port of a server
 * that died would be sent the token by the next command.
 */
export function proofOfToken(token: string, challenge: string): string {
  return createHmac('sha256', token).update(`stillpoint-server:${challenge}`).digest('hex')
}

export function isProof(proof: string, token: string, challenge: string): boolean {
  return timingSafeEqual(sha256(proof), sha256(proofOfToken(token, challenge)))
}
