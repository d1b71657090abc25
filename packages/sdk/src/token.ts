/**
 * The shared secret of a system: where it is read from, how it is compared, and how HTTP headers are signed with it.
 * It is never logged and never part of a failure's message.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { type Clock, Failure } from '@stillpoint/core/kernel'

export type TokenSource = { readonly token: string } | { readonly tokenFile: string }

/** A rotated file is taken over within this time, without a restart. */
const cacheMs = 2_000

/** Reads the token again when what was read is older than a moment. */
export function tokenReader(source: TokenSource, clock: Clock): () => Promise<string> {
  let read: { readonly token: string; readonly atMs: number } | null = null
  return async () => {
    const nowMs = clock.monotonicMs()
    if (read === null || nowMs - read.atMs > cacheMs) read = { token: await readToken(source), atMs: nowMs }
    return read.token
  }
}

async function readToken(source: TokenSource): Promise<string> {
  if ('token' in source) return checked(source.token, 'the option "token"')
  let text: string
  try {
    text = await readFile(source.tokenFile, 'utf8')
  } catch (cause) {
    const hint = 'Put the token that `stillpoint up` shows into this file, readable by this service only.'
    throw new Failure({
      code: 'token_unreadable',
      message: `cannot read the token file ${source.tokenFile}`,
      hint,
      cause,
    })
  }
  return checked(text.trim(), source.tokenFile)
}

const tokenLengthMax = 4096

function checked(token: string, from: string): string {
  // Anything else cannot travel in an HTTP header.
  if (!/^[\x21-\x7e]+$/.test(token) || token.length > tokenLengthMax) {
    const message = `${from} holds no usable token: it must be one line of visible ASCII characters`
    throw new Failure({ code: 'token_invalid', message })
  }
  return token
}

/** In constant time, whatever the lengths. */
export function sameToken(given: string, expected: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(given), digest(expected))
}

/** The token of an `authorization: Bearer …` header; `null` where there is none. */
export function bearerOf(header: string | undefined): string | null {
  const match = /^bearer +(\S+)$/i.exec(header ?? '')
  return match?.[1] ?? null
}

/** HMAC-SHA-256 over fields that hold no line break, hexadecimal. */
export function sign(token: string, fields: readonly string[]): string {
  return createHmac('sha256', token).update(fields.join('\n')).digest('hex')
}
