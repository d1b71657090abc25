/**
 * The file of the vault's users: who may enter, by which secret, and what they may do.
 *
 * Owns: its lines, reading and changing it. Does not own: checking secrets against it (authentication.ts).
 *
 * A line per secret, as in an htpasswd file: `NAME:SECRET[:ATTRIBUTE]…`. A user has one password and any number of
 * tokens. `SECRET` is one of
 * - `$scrypt$ln=15,r=8,p=1$SALT$HASH` (RFC 7914; salt and hash in base64), a password;
 * - `$token$LABEL$HASH`, a token of 256 random bits, of which SHA-256 says nothing. No slow hash is needed for it.
 * `ATTRIBUTE` is `append-only` (nothing but locks may be deleted with this secret) or `quota=BYTES` (on the password's
 * line, for the user).
 *
 * Invariants:
 * - No password and no token is in the file, nor in any message.
 * - The file is replaced as a whole: readers see the old one or the new one. Of two who change it at once, one fails.
 */
import { open, readFile, rename, stat, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { errnoOf, storageFailure } from '@stillpoint/repository'
import { userNameProblem } from './user-names.ts'

export interface ScryptHash {
  readonly kind: 'password'
  /** Binary logarithm of the cost N. */
  readonly logN: number
  readonly r: number
  readonly p: number
  readonly salt: Buffer
  readonly hash: Buffer
}

export interface TokenHash {
  readonly kind: 'token'
  readonly label: string
  /** SHA-256 of the token, 64 hexadecimal digits. */
  readonly hash: string
}

export interface UserSecret {
  readonly user: string
  readonly secret: ScryptHash | TokenHash
  readonly appendOnly: boolean
  readonly quotaBytes?: number
}

const fileBytesMax = 16 * 1024 * 1024
const fileMode = 0o600
/** 1 GiB: a line that asks for more memory is a mistake, or an attack. */
const scryptBytesMax = 2 ** 30

/** @throws Failure `users_file_invalid`, naming the line, and those of reading a file */
export async function readUsersFile(path: string): Promise<readonly UserSecret[]> {
  let text: string
  try {
    const status = await stat(path)
    if (!status.isFile()) throw invalid(path, 'is no regular file')
    if ((status.mode & 0o002) !== 0) {
      throw new Failure({
        code: 'secret_file_too_open',
        message: `every user of this machine can write ${path}, and so let themselves in`,
        hint: `Run: chmod 600 ${JSON.stringify(path)}`,
      })
    }
    if (status.size > fileBytesMax) throw invalid(path, `has more than ${fileBytesMax} bytes`)
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw storageFailure(error, 'reading the users', path)
  }
  return parseUsers(text, path)
}

/** @throws Failure `users_file_invalid` */
export function parseUsers(text: string, path: string): readonly UserSecret[] {
  const secrets: UserSecret[] = []
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue
    const secret = parseLine(line.replace(/\r$/, ''))
    // Not quoted: it may be a password that somebody wrote there as it is.
    if (secret === undefined) throw invalid(`${path}:${index + 1}`, 'is no line of a user')
    const isSecond = secret.secret.kind === 'password' && passwordOf(secrets, secret.user) !== undefined
    if (isSecond) throw invalid(`${path}:${index + 1}`, `gives "${secret.user}" a second password`)
    secrets.push(secret)
  }
  return secrets
}

export function passwordOf(secrets: readonly UserSecret[], user: string): UserSecret | undefined {
  return secrets.find((each) => each.user === user && each.secret.kind === 'password')
}

function invalid(place: string, what: string): Failure {
  return new Failure({
    code: 'users_file_invalid',
    message: `${place} ${what}`,
    hint: 'Correct or remove the line. "stillpoint vault user add NAME" writes one.',
  })
}

function parseLine(line: string): UserSecret | undefined {
  const [user = '', secretText = '', ...attributes] = line.split(':')
  if (userNameProblem(user) !== undefined) return undefined
  const secret = parseScrypt(secretText) ?? parseToken(secretText)
  if (secret === undefined) return undefined
  let appendOnly = false
  let quotaBytes: number | undefined
  for (const attribute of attributes) {
    const quota = /^quota=(\d{1,15})$/.exec(attribute)?.[1]
    if (attribute === 'append-only') appendOnly = true
    else if (quota !== undefined && secret.kind === 'password') quotaBytes = Number(quota)
    else return undefined
  }
  return { user, secret, appendOnly, ...(quotaBytes === undefined ? {} : { quotaBytes }) }
}

function parseScrypt(text: string): ScryptHash | undefined {
  const form = /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]+=*)\$([A-Za-z0-9+/]+=*)$/
  const match = form.exec(text)
  if (match === null) return undefined
  const [logN, r, p] = [Number(match[1]), Number(match[2]), Number(match[3])]
  const [salt, hash] = [Buffer.from(match[4] ?? '', 'base64'), Buffer.from(match[5] ?? '', 'base64')]
  const isSound = logN >= 1 && r >= 1 && p >= 1 && p <= 64 && 128 * r * 2 ** logN <= scryptBytesMax
  return isSound && salt.length >= 8 && hash.length >= 16 ? { kind: 'password', logN, r, p, salt, hash } : undefined
}

function parseToken(text: string): TokenHash | undefined {
  const match = /^\$token\$([A-Za-z0-9._-]{1,64})\$([0-9a-f]{64})$/.exec(text)
  return match === null ? undefined : { kind: 'token', label: match[1] ?? '', hash: match[2] ?? '' }
}

function lineOf({ user, secret, appendOnly, quotaBytes }: UserSecret): string {
  const text =
    secret.kind === 'token'
      ? `$token$${secret.label}$${secret.hash}`
      : `$scrypt$ln=${secret.logN},r=${secret.r},p=${secret.p}$${secret.salt.toString('base64')}$${secret.hash.toString('base64')}`
  const attributes = [
    ...(appendOnly ? ['append-only'] : []),
    ...(quotaBytes === undefined ? [] : [`quota=${quotaBytes}`]),
  ]
  return [user, text, ...attributes].join(':')
}

/**
 * Replaces the file by what `change` makes of it.
 * @throws Failure `users_file_busy`, `users_file_invalid`, those of `change` and of writing a file
 */
export async function changeUsersFile(
  path: string,
  change: (secrets: readonly UserSecret[]) => readonly UserSecret[],
): Promise<void> {
  const draft = `${path}.new`
  // Made exclusively: it is the lock against another one who changes the file, too.
  const file = await open(draft, 'wx', fileMode).catch((error: unknown) => {
    if (errnoOf(error) !== 'EEXIST') throw storageFailure(error, 'writing the users', draft)
    throw new Failure({
      code: 'users_file_busy',
      message: `somebody else is changing ${path}: ${draft} is there`,
      hint: `Try again. If nobody is, a change was interrupted: remove ${draft}.`,
      retry: 'later',
      cause: error,
    })
  })
  try {
    try {
      const secrets = change(await readUsersFile(path))
      await file.writeFile(secrets.map((secret) => `${lineOf(secret)}\n`).join(''))
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(draft, path)
  } catch (error) {
    await unlink(draft).catch(unlessGone)
    throw storageFailure(error, 'writing the users', path)
  }
  const folder = await open(dirname(path), 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

function unlessGone(error: unknown): void {
  if (errnoOf(error) !== 'ENOENT') throw error
}
