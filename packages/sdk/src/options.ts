/** What `join` is told, checked once, with every default in one place. */
import { randomUUID } from 'node:crypto'
import { type Clock, Failure, type Incarnation, participantName, type Random } from '@stillpoint/core/kernel'
import { systemClock, systemRandom } from './clock.ts'
import type { StateHooks } from './state/hooks.ts'
import { tokenReader } from './token.ts'

export interface JoinOptions {
  /** This process's name in the system: letters, digits, ".", "_", "-". One live process per name. */
  readonly name: string
  /** Where Stillpoint is: `http://127.0.0.1:7420`, `https://…`, `ws://…` or `wss://…`. */
  readonly server: string
  /** The system's shared secret. Prefer `tokenFile`: it can be rotated, and is in no environment or argument list. */
  readonly token?: string
  readonly tokenFile?: string
  /** What this process keeps in memory and would lose with it. Leave out where all state is in stores. */
  readonly state?: StateHooks
  /**
   * Default for all handlers: delivering their message again is exact, because effects and message id are recorded
   * together. Default: false.
   */
  readonly transactional?: boolean
  /** Bytes of one message, in and out. Default: 1 MiB. */
  readonly messageBytesMax?: number
  /** What a channel keeps that its receiver has not handled yet; beyond it `send` waits. Default: 4096 messages. */
  readonly bufferMessagesMax?: number
  /** Default: 16 MiB. */
  readonly bufferBytesMax?: number
  /** How long a restore waits for handlers that run when it comes. Default: 30,000 ms. */
  readonly restoreHandlersMs?: number
  /** How long a restore waits for the handler of one replayed message before the next. Default: 30,000 ms. */
  readonly replayHandlerMs?: number
  /** For people to read: joined, lost, restored. Default: nothing. */
  readonly onNote?: (note: string) => void
  /**
   * What went wrong and was not thrown at anybody: a handler that threw, a peer that refuses, a lost connection.
   * Default: one line on stderr.
   */
  readonly onError?: (error: unknown, during: string) => void
  readonly clock?: Clock
  readonly random?: Random
  /** One life of this process. Default: a random UUID. */
  readonly incarnation?: string
}

export interface Settings {
  readonly name: ReturnType<typeof participantName>
  readonly incarnation: Incarnation
  readonly sessionUrl: string
  /** @throws Failure `token_unreadable`, `token_invalid` */
  readonly readToken: () => Promise<string>
  readonly state: StateHooks | null
  readonly transactional: boolean
  readonly messageBytesMax: number
  readonly bufferMessagesMax: number
  readonly bufferBytesMax: number
  readonly restoreHandlersMs: number
  readonly replayHandlerMs: number
  readonly note: (text: string) => void
  /** Never throws, whatever the application's own listener does. */
  readonly error: (error: unknown, during: string) => void
  readonly clock: Clock
  readonly random: Random
}

/** @throws Failure `options_invalid`, `name_invalid` */
export function settingsOf(options: JoinOptions): Settings {
  const { token, tokenFile } = options
  if ((token === undefined) === (tokenFile === undefined)) {
    throw optionsInvalid('give either "token" or "tokenFile"')
  }
  const clock = options.clock ?? systemClock
  return {
    name: participantName(options.name),
    incarnation: (options.incarnation ?? randomUUID()) as Incarnation,
    sessionUrl: sessionUrlOf(options.server),
    readToken: tokenReader(tokenFile === undefined ? { token: token ?? '' } : { tokenFile }, clock),
    state: options.state ?? null,
    transactional: options.transactional ?? false,
    messageBytesMax: positive(options.messageBytesMax ?? 1024 * 1024, 'messageBytesMax'),
    bufferMessagesMax: positive(options.bufferMessagesMax ?? 4096, 'bufferMessagesMax'),
    bufferBytesMax: positive(options.bufferBytesMax ?? 16 * 1024 * 1024, 'bufferBytesMax'),
    restoreHandlersMs: positive(options.restoreHandlersMs ?? 30_000, 'restoreHandlersMs'),
    replayHandlerMs: positive(options.replayHandlerMs ?? 30_000, 'replayHandlerMs'),
    note: guarded(options.onNote ?? (() => {})),
    error: guarded(options.onError ?? logToStderr),
    clock,
    random: options.random ?? systemRandom,
  }
}

function sessionUrlOf(server: string): string {
  let url: URL
  try {
    url = new URL(server)
  } catch (cause) {
    throw optionsInvalid(`"server" is not a URL: ${JSON.stringify(server)}`, cause)
  }
  const protocols: Readonly<Record<string, string>> = { 'http:': 'ws:', 'https:': 'wss:', 'ws:': 'ws:', 'wss:': 'wss:' }
  const protocol = protocols[url.protocol]
  if (protocol === undefined || url.username !== '' || url.password !== '') {
    throw optionsInvalid('"server" must be an http, https, ws or wss URL without a user or password in it')
  }
  const base = url.pathname.endsWith('/') ? url.pathname.slice(0, -1) : url.pathname
  return `${protocol}//${url.host}${base}/v1/session`
}

function positive(value: number, what: string): number {
  if (!Number.isFinite(value) || value <= 0) throw optionsInvalid(`"${what}" must be a number above 0`)
  return value
}

function optionsInvalid(message: string, cause?: unknown): Failure {
  return new Failure({ code: 'options_invalid', message: `join: ${message}`, cause })
}

function logToStderr(error: unknown, during: string): void {
  process.stderr.write(`stillpoint: ${during}: ${error instanceof Error ? error.message : String(error)}\n`)
}

/** A listener of the application must not break the protocol: what it throws goes to stderr. */
function guarded<A extends readonly unknown[]>(listener: (...values: A) => void): (...values: A) => void {
  return (...values) => {
    try {
      listener(...values)
    } catch (error) {
      logToStderr(error, 'a listener of the application threw')
    }
  }
}
