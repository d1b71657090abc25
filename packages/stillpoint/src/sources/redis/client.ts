/**
 * One connection to Redis. A thin layer over `ioredis` for what the protocol needs: no reconnecting and no repeating of
 * commands behind our back (a connection that was lost is evidence), cancelling by AbortSignal, and named failures.
 *
 * Invariant: `lost` is set from the moment this side knows that the connection has ended, and never reset.
 */
import { readFile } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { type RedisOptions as ClientOptions, Redis } from 'ioredis'
import { type Address, describeAddress } from './options.ts'

const connectTimeoutMs = 10_000

export interface Login {
  readonly address: Address
  readonly password: string | undefined
}

export interface Connection {
  readonly lost: Failure | undefined
  /** Address of this end: where the server could reach us. Undefined for sockets. */
  readonly localAddress: string | undefined
  /** One command, answered as text or lists of it. @throws Failure; the signal's reason when aborted */
  call(signal: AbortSignal, command: string, ...args: readonly (string | number)[]): Promise<unknown>
  /** The same, with answers as bytes. */
  callBytes(signal: AbortSignal, command: string, ...args: readonly (string | number | Buffer)[]): Promise<unknown>
  destroy(): void
}

/** @throws Failure `store_unreachable` | `store_refused_password` */
export async function connect(login: Login, signal: AbortSignal): Promise<Connection> {
  signal.throwIfAborted()
  const { address, password } = login
  const client = new Redis({
    ...(isAbsolute(address.host) ? { path: address.host } : { host: address.host, port: address.port }),
    ...(address.user === undefined ? {} : { username: address.user }),
    ...(password === undefined ? {} : { password }),
    ...(address.tls ? { tls: await tlsOptions(address) } : {}),
    lazyConnect: true,
    connectTimeout: connectTimeoutMs,
    retryStrategy: () => null,
    reconnectOnError: () => false,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    enableReadyCheck: false,
    disableClientInfo: true,
    protocol: 2,
  })
  let lost: Failure | undefined
  let cause: Error | undefined
  const target = describeAddress(address)
  client.on('error', (error: Error) => {
    cause ??= error
  })
  client.on('close', () => {
    lost ??= lostFailure(target, cause)
  })
  const destroy = () => {
    lost ??= lostFailure(target, new Error('it was ended by us'))
    client.disconnect(false)
  }
  try {
    await unlessAborted(client.connect(), signal, destroy)
    await unlessAborted(client.call('PING'), signal, destroy)
  } catch (error) {
    destroy()
    signal.throwIfAborted()
    throw connectFailure(cause ?? error, login, target)
  }
  const guarded = async <T>(command: string, signal: AbortSignal, act: () => Promise<T>): Promise<T> => {
    signal.throwIfAborted()
    if (lost !== undefined) throw lost
    try {
      return await unlessAborted(act(), signal, destroy)
    } catch (error) {
      signal.throwIfAborted()
      throw lost ?? commandFailure(error, { command, target, user: address.user })
    }
  }
  const stream: unknown = Reflect.get(client, 'stream')
  const local: unknown = stream instanceof Object ? Reflect.get(stream, 'localAddress') : undefined
  return {
    get lost() {
      return lost
    },
    localAddress: typeof local === 'string' ? local : undefined,
    call: (signal, command, ...args) => guarded(named(command, args), signal, () => client.call(command, ...args)),
    callBytes: (signal, command, ...args) =>
      guarded(named(command, args), signal, () => client.callBuffer(command, ...args)),
    destroy,
  }
}

/** Commands whose first argument is a part of their name. */
const containers = new Set(['CLIENT', 'CONFIG', 'ACL', 'FUNCTION', 'COMMAND', 'XINFO', 'DEBUG'])

function named(command: string, args: readonly unknown[]): string {
  return containers.has(command) && typeof args[0] === 'string' ? `${command} ${args[0]}` : command
}

/** What a command's error means. Redis's error codes are the first words of its messages, and are stable. */
export function commandFailure(
  error: unknown,
  about: { readonly command: string; readonly target: string; readonly user: string | undefined },
): Failure {
  if (error instanceof Failure) return error
  const detail = error instanceof Error ? error.message : String(error)
  const { command, target, user = 'default' } = about
  const make = (code: string, message: string, hint: string, retry: 'never' | 'later' = 'never') =>
    new Failure({ code, message: `${message}: ${detail}`, hint, retry, cause: error })
  if (detail.startsWith('NOPERM')) {
    const rule = `+${command.toLowerCase().replace(' ', '|')}`
    const hint = `Run: ACL SETUSER ${user} ${rule} (docs/sources/redis.md lists all commands that are needed).`
    return make('store_privilege_missing', `the user ${user} of ${target} may not run ${command}`, hint)
  }
  if (/^ERR unknown (sub)?command/i.test(detail)) {
    const hint = 'It is disabled or renamed (rename-command in the server’s configuration), or the server is too old.'
    return make('store_command_missing', `${target} has no command ${command}`, hint)
  }
  if (detail.startsWith('NOAUTH') || detail.startsWith('WRONGPASS')) {
    return make('store_refused_password', `${target} wants a password`, 'Check user, passwordFile or passwordCommand.')
  }
  if (/^(LOADING|MASTERDOWN|BUSY|TRYAGAIN)/.test(detail)) {
    return make('store_unreachable', `${target} is busy`, 'Try again when it has ended.', 'later')
  }
  if (detail.startsWith('MISCONF') || /No space left/.test(detail)) {
    return make('disk_full', `${target} cannot save`, 'Look into the server’s log; free some space on its disk.')
  }
  if (detail.startsWith('OOM')) {
    return make('store_out_of_memory', `${target} is out of memory`, 'Raise maxmemory, or use a larger server.')
  }
  return make('store_failed', `${target} refused ${command}`, 'The words after the colon are the server’s own.')
}

function lostFailure(target: string, cause: unknown): Failure {
  const why = cause instanceof Error ? `: ${cause.message}` : ''
  const message = `the connection to ${target} ended${why}`
  return new Failure({
    code: 'store_lost',
    message,
    hint: 'Look into the server’s log, and try again.',
    retry: 'later',
    cause,
  })
}

function connectFailure(error: unknown, login: Login, target: string): Failure {
  if (error instanceof Failure) return error
  const detail = error instanceof Error ? error.message : String(error)
  if (/^(NOAUTH|WRONGPASS|NOPERM|ERR .*(AUTH|password))/.test(detail)) {
    const user = login.address.user ?? 'default'
    return new Failure({
      code: 'store_refused_password',
      message: `${target} refused the user ${user}: ${detail}`,
      hint:
        login.password === undefined
          ? 'Name its password in passwordFile or passwordCommand.'
          : 'Check user, passwordFile or passwordCommand.',
      cause: error,
    })
  }
  return new Failure({
    code: 'store_unreachable',
    message: `${target} cannot be reached: ${detail}`,
    hint: 'Check host, port and tls, and that the server runs and listens there.',
    retry: 'later',
    cause: error,
  })
}

async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal, destroy: () => void): Promise<T> {
  signal.addEventListener('abort', destroy, { once: true })
  try {
    if (signal.aborted) destroy()
    return await work
  } finally {
    signal.removeEventListener('abort', destroy)
  }
}

async function tlsOptions(address: Address): Promise<NonNullable<ClientOptions['tls']>> {
  if (address.tlsCaFile === undefined) return {}
  try {
    return { ca: await readFile(address.tlsCaFile, 'utf8') }
  } catch (cause) {
    const message = `cannot read tlsCaFile ${address.tlsCaFile}`
    throw new Failure({
      code: 'options_invalid',
      message,
      hint: 'It must be a PEM file that this user can read.',
      cause,
    })
  }
}
