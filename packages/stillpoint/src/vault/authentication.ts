/**
 * Who is asking: checks what a request brings against the file of users.
 *
 * Owns: hashing of passwords and tokens, the following of changes in the file, the cost of guessing.
 * Does not own: what users may do (vault-app.ts).
 *
 * Invariants:
 * - A password is hashed by scrypt once per life of the vault, since a backup asks thousands of times: what was right
 *   is remembered as a keyed digest, never as text, and for the very hash that it was right for.
 * - Whether a user exists is not told: not in words, and not by a faster answer.
 * - Guesses are few: at most `hashingMax` are computed at once, and at most `waitingMax` wait.
 */
import { createHash, createHmac, randomBytes, scrypt, timingSafeEqual } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { type Clock, describeFailure, type Entropy, Failure } from '@stillpoint/core/kernel'
import { errnoOf } from '@stillpoint/repository'
import { passwordOf, readUsersFile, type ScryptHash, type UserSecret } from './users-file.ts'

export interface Visitor {
  readonly user: string
  /** May delete nothing but locks. */
  readonly appendOnly: boolean
  readonly quotaBytes?: number
}

export interface Authentication {
  /** @throws Failure `unauthenticated`, `vault_busy` */
  check(authorization: string | undefined): Promise<Visitor>
}

export interface AuthenticationOptions {
  readonly usersFile: string
  readonly clock: Clock
  /** Told when the file has become unreadable; what was read before goes on to hold. */
  readonly warn: (message: string) => void
}

const hashBytes = 32
const saltBytes = 16
/** 32 MiB and some 0.1 s per guess. */
const passwordCost = { logN: 15, r: 8, p: 1 } as const
const hashingMax = 2
const waitingMax = 32
const fileLookMs = 1_000
const rememberedMax = 10_000
const tokenPrefix = 'spv_'

/** @throws Failure of `readUsersFile` */
export async function openAuthentication(options: AuthenticationOptions): Promise<Authentication> {
  const { usersFile, clock, warn } = options
  const following = await followFile(usersFile, { clock, warn })
  const digestKey = randomBytes(32)
  const right = new Set<string>()
  const hashing = createTurns(hashingMax, waitingMax)
  /** For unknown users: takes as long as a real one. */
  const decoy: ScryptHash = {
    kind: 'password',
    ...passwordCost,
    salt: randomBytes(saltBytes),
    hash: randomBytes(hashBytes),
  }

  async function isPassword(expected: ScryptHash, given: string): Promise<boolean> {
    const digest = createHmac('sha256', digestKey)
      .update(expected.salt)
      .update(expected.hash)
      .update(given)
      .digest('hex')
    if (right.has(digest)) return true
    const isRight = await hashing(async () => {
      // Somebody before us in the queue may have asked the same: a backup begins with many requests at once.
      if (right.has(digest)) return true
      return timingSafeEqual(await derive(given, expected), expected.hash)
    })
    if (!isRight) return false
    if (right.size >= rememberedMax) right.clear()
    right.add(digest)
    return true
  }

  return {
    async check(authorization) {
      const given = givenSecret(authorization)
      if (given === undefined) throw unauthenticated('a user and a password, or a token, are needed')
      const secrets = await following.secrets()
      const token = tokenIn(secrets, given.secret)
      if (token !== undefined && (given.user === undefined || given.user === token.user)) {
        return visitor(secrets, token)
      }
      if (given.user === undefined) throw unauthenticated('the token is not known')
      const known = passwordOf(secrets, given.user)
      const expected = known?.secret.kind === 'password' ? known.secret : decoy
      const isRight = await isPassword(expected, given.secret)
      if (known === undefined || !isRight) throw unauthenticated('the user or the password is wrong')
      return visitor(secrets, known)
    },
  }
}

/** The quota is the user's, whatever secret they come with. */
function visitor(secrets: readonly UserSecret[], { user, appendOnly }: UserSecret): Visitor {
  const quotaBytes = passwordOf(secrets, user)?.quotaBytes
  return { user, appendOnly, ...(quotaBytes === undefined ? {} : { quotaBytes }) }
}

function unauthenticated(message: string): Failure {
  return new Failure({ code: 'unauthenticated', message, hint: 'Check the credentials of this repository.' })
}

interface GivenSecret {
  readonly user?: string
  readonly secret: string
}

/** A token is also taken as the password of its user: stock restic can send nothing else. */
function givenSecret(authorization: string | undefined): GivenSecret | undefined {
  const bearer = /^Bearer +([\w.~+/=-]{1,512})$/i.exec(authorization ?? '')?.[1]
  if (bearer !== undefined) return { secret: bearer }
  const basic = /^Basic +([A-Za-z0-9+/=_-]{1,8192})$/i.exec(authorization ?? '')?.[1]
  if (basic === undefined) return undefined
  const text = Buffer.from(basic, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  return colon === -1 ? undefined : { user: text.slice(0, colon), secret: text.slice(colon + 1) }
}

/** Digests are compared, and a digest of a guess tells nothing about the token by how long that takes. */
function tokenIn(secrets: readonly UserSecret[], given: string): UserSecret | undefined {
  if (!given.startsWith(tokenPrefix)) return undefined
  const hash = hashOfToken(given)
  return secrets.find(({ secret }) => secret.kind === 'token' && secret.hash === hash)
}

function hashOfToken(token: string): string {
  return createHash('sha256').update(token).digest('hex')
}

export interface NewToken {
  /** To be shown once. */
  readonly token: string
  readonly hash: string
}

export function createToken(entropy: Entropy): NewToken {
  const bytes = Buffer.alloc(32)
  entropy.fill(bytes)
  const token = `${tokenPrefix}${bytes.toString('hex')}`
  return { token, hash: hashOfToken(token) }
}

/** @param cost of a guess; less only in tests */
export async function hashPassword(
  password: string,
  entropy: Entropy,
  cost: Pick<ScryptHash, 'logN' | 'r' | 'p'> = passwordCost,
): Promise<ScryptHash> {
  const salt = Buffer.alloc(saltBytes)
  entropy.fill(salt)
  const empty = { kind: 'password', ...cost, salt, hash: Buffer.alloc(hashBytes) } as const
  return { ...empty, hash: await derive(password, empty) }
}

function derive(password: string, { logN, r, p, salt, hash }: ScryptHash): Promise<Buffer> {
  const cost = { N: 2 ** logN, r, p, maxmem: 128 * r * (2 ** logN + p) + 2 ** 20 }
  return new Promise((resolve, reject) => {
    scrypt(password, salt, hash.length, cost, (error, key) => (error === null ? resolve(key) : reject(error)))
  })
}

/** Runs at most `runningMax` at once; refuses when more than `queueMax` wait. */
function createTurns(runningMax: number, queueMax: number): <T>(action: () => Promise<T>) => Promise<T> {
  let running = 0
  const queue: (() => void)[] = []
  return async (action) => {
    if (running >= runningMax) {
      if (queue.length >= queueMax) {
        const message = 'too many passwords are being checked'
        throw new Failure({ code: 'vault_busy', message, hint: 'Try again.', retry: 'later' })
      }
      await new Promise<void>((go) => queue.push(go))
    } else running += 1
    try {
      return await action()
    } finally {
      // The place is handed on, so that nobody slips in between.
      const next = queue.shift()
      if (next === undefined) running -= 1
      else next()
    }
  }
}

/** The secrets in the file, read again within a second of a change. */
async function followFile(path: string, { clock, warn }: Pick<AuthenticationOptions, 'clock' | 'warn'>) {
  const markOf = async () => {
    try {
      const { mtimeMs, ino, size } = await stat(path)
      return `${mtimeMs} ${ino} ${size}`
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return ''
      throw error
    }
  }
  let mark = await markOf()
  let secrets = await readUsersFile(path)
  let lookedMs = clock.monotonicMs()
  let looking: Promise<void> | undefined
  let warned = ''

  async function look(): Promise<void> {
    try {
      const now = await markOf()
      if (now !== mark) secrets = await readUsersFile(path)
      mark = now
      warned = ''
    } catch (error) {
      const { message } = describeFailure(error)
      if (warned !== message) warn(`The users as they were before go on to hold: ${message}`)
      warned = message
    } finally {
      lookedMs = clock.monotonicMs()
      looking = undefined
    }
  }

  return {
    async secrets(): Promise<readonly UserSecret[]> {
      if (clock.monotonicMs() - lookedMs >= fileLookMs) looking ??= look()
      await looking
      return secrets
    },
  }
}
