/**
 * Owns how a client of the REST protocol is told who it is: from a file, never from a URL or an argument, so that no
 * process list, log or message has a password in it. Does not own what the server does with it.
 */
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { Failure } from '@stillpoint/core/kernel'

const credentialBytesMax = 16 * 1024

/**
 * The value of the `authorization` header for a file of one line: `name:password` (RFC 7617), or a token, which has no
 * colon (RFC 6750).
 * @throws Failure `secret_file_unreadable` | `secret_file_too_open` | `secret_empty` | `secret_too_large` |
 *   `secret_not_text`
 */
export async function readAuthorization(path: string): Promise<string> {
  const line = (await readCredentialsText(path)).replace(/\r?\n$/, '')
  if (line === '') {
    const hint = 'Write "name:password" into it, or a token.'
    throw new Failure({ code: 'secret_empty', message: `the credentials file ${path} is empty`, hint })
  }
  // A header with a control character in it would be another header.
  if (/\p{Cc}/u.test(line)) {
    const hint = 'Write one line into it: "name:password", or a token.'
    throw new Failure({
      code: 'secret_not_text',
      message: `the credentials file ${path} is not one line of text`,
      hint,
    })
  }
  if (line.includes(':')) return basicOf(line)
  if (/^[\w.~+/=-]+$/.test(line)) return `Bearer ${line}`
  const hint = 'A line without a colon is a token: letters, digits and "-._~+/=" only.'
  throw new Failure({ code: 'secret_not_text', message: `the credentials file ${path} holds no token`, hint })
}

export interface RestCredentials {
  readonly name: string
  readonly password: string
}

/** The value of the `authorization` header for these (RFC 7617). @throws Failure `secret_not_text` */
export function basicAuthorization({ name, password }: RestCredentials): string {
  if (!name.includes(':') && !/\p{Cc}/u.test(name + password)) return basicOf(`${name}:${password}`)
  const message = 'the name or the password for the REST server has characters that cannot be sent'
  throw new Failure({ code: 'secret_not_text', message, hint: 'No control characters, and no ":" in the name.' })
}

function basicOf(credentials: string): string {
  return `Basic ${Buffer.from(credentials, 'utf8').toString('base64')}`
}

/** A file of credentials as text: regular, not writable by all, of at most 16 KiB. @throws Failure `secret_…` */
export async function readCredentialsText(path: string): Promise<string> {
  return textOf(await readBounded(path), path)
}

function textOf(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    // The decoder's own error may quote its input: it is no cause to show.
    throw new Failure({ code: 'secret_not_text', message: `the credentials file ${path} is not UTF-8 text` })
  }
}

async function readBounded(path: string): Promise<Buffer> {
  let file: FileHandle
  try {
    // O_NONBLOCK: a FIFO without a writer would block the open for ever.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (cause) {
    throw unreadable(path, cause)
  }
  try {
    // The open file is checked, not the path: the path could name another file by then.
    const status = await file.stat()
    if (!status.isFile()) throw unreadable(path, new Error('it is not a regular file'))
    if ((status.mode & 0o002) !== 0) {
      throw new Failure({
        code: 'secret_file_too_open',
        message: `every user of this machine can write the credentials file ${path}`,
        hint: `Run: chmod 600 ${JSON.stringify(path)}`,
      })
    }
    const bytes = Buffer.alloc(credentialBytesMax + 1)
    let filled = 0
    while (filled < bytes.length) {
      const { bytesRead } = await file.read(bytes, filled, bytes.length - filled).catch((cause: unknown) => {
        throw unreadable(path, cause)
      })
      if (bytesRead === 0) return bytes.subarray(0, filled)
      filled += bytesRead
    }
  } finally {
    await file.close()
  }
  throw new Failure({
    code: 'secret_too_large',
    message: `the credentials file ${path} has more than ${credentialBytesMax} bytes`,
    hint: 'One line is expected: "name:password", or a token.',
  })
}

function unreadable(path: string, cause: unknown): Failure {
  const why = cause instanceof Error ? cause.message : String(cause)
  const hint = 'Check that it exists, is a regular file, and that the user who runs this may read it.'
  return new Failure({
    code: 'secret_file_unreadable',
    message: `the credentials file ${path} cannot be read: ${why}`,
    hint,
    cause,
  })
}
