/**
 * Owns requests to one server of the REST protocol: connections, TLS, credentials, timeouts, aborts, and the
 * translation of what goes wrong on the way and of refusing statuses into `Failure`s. Does not own what the requests
 * mean (rest-store.ts), nor repeating them (retrying.ts).
 *
 * Invariants: 1. an answer that was cut off never looks complete: Node fails the body whose end did not come. 2. No
 * message has a credential in it: they are in a header only, and URLs with a password are refused.
 */
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import { Failure } from '@stillpoint/core/kernel'
import { answerBytes } from './answer-bytes.ts'
import { basicAuthorization, type RestCredentials, readAuthorization } from './rest-credentials.ts'
import { errnoOf, storageFailure } from './storage-failure.ts'
import { readTlsSettings, type TlsOptions } from './tls-options.ts'

export interface RestServerOptions extends TlsOptions {
  /** `https://host[:port]/path/` of the repository, with or without `rest:` before it. No user or password. */
  readonly url: string
  /** File with one line: `name:password`, or a token. */
  readonly credentialsFile?: string
  /** The same for who has them in memory; a file wins. */
  readonly credentials?: RestCredentials
  /** Sends credentials over plain HTTP to other machines too. */
  readonly insecureHttp?: boolean
  /** The longest time in which nothing is sent or received for a request that is under way. Default: 60 s. */
  readonly silenceMsMax?: number
  /** What we call ourselves there. Default: `stillpoint`. */
  readonly userAgent?: string
  /** Requests under way at once; more wait. Default: 8. */
  readonly connectionsMax?: number
  /** Ends all requests, which then throw its reason. */
  readonly signal?: AbortSignal
}

export interface RestRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'DELETE'
  /** Below the repository's URL, without a slash at its start. */
  readonly path: string
  readonly headers?: OutgoingHttpHeaders
  readonly body?: Uint8Array
  /** For messages: `reading`, `listing`. */
  readonly doing: string
}

export interface RestServer {
  /** For messages: the URL of a path. */
  locate(path: string): string
  /**
   * The answer, whatever its status. Its body must be read or destroyed.
   * @throws Failure `storage_failed`; the reason of the signal when aborted
   */
  send(request: RestRequest): Promise<IncomingMessage>
  /** Bytes of an answer, at most `bytesMax`. @throws Failure `storage_failed` */
  read(answer: IncomingMessage, request: RestRequest, bytesMax: number): Promise<Buffer>
  /** An answer as it comes, which is to be read to its end or left. @throws Failure `storage_failed` */
  body(answer: IncomingMessage, request: RestRequest): AsyncIterable<Buffer>
  /** What a refusing status says, with the server's own words. Reads the answer. */
  refusal(answer: IncomingMessage, request: RestRequest): Promise<Failure>
}

const defaultSilenceMsMax = 60_000
const defaultConnectionsMax = 8
const refusalBytesMax = 16 * 1024
export const restProtocol = 'application/vnd.x.restic.rest.v2'

/** @throws Failure `options_invalid`, `storage_failed` (CA file) and those of `readAuthorization` */
export async function connectRestServer(options: RestServerOptions): Promise<RestServer> {
  const base = parseRestUrl(options.url)
  const authorization =
    options.credentialsFile === undefined
      ? options.credentials && basicAuthorization(options.credentials)
      : await readAuthorization(options.credentialsFile)
  refusePlainCredentials(base, authorization, options)
  const isTls = base.protocol === 'https:'
  const maxSockets = options.connectionsMax ?? defaultConnectionsMax
  // `lifo`: few connections that are in use, rather than many that the server is about to close.
  const pool = { keepAlive: true, maxSockets, scheduling: 'lifo' } as const
  // Loaded here and not above: they bring half of Node's own modules, which a repository on a disk has no use for.
  const { Agent, request: start } = isTls ? await import('node:https') : await import('node:http')
  const agent = new Agent(isTls ? { ...pool, ...(await readTlsSettings(options)) } : pool)
  const silenceMsMax = options.silenceMsMax ?? defaultSilenceMsMax
  const { userAgent = 'stillpoint' } = options
  const locate = (path: string) => new URL(path, base).href
  const { signal } = options

  function once(request: RestRequest): Promise<{ answer: IncomingMessage } | { error: unknown; reused: boolean }> {
    const { method, path, body, headers } = request
    const length = method === 'POST' ? { 'content-length': body?.length ?? 0 } : {}
    const authorized = authorization === undefined ? {} : { authorization }
    return new Promise((resolve) => {
      const sent = start(new URL(path, base), {
        agent,
        method,
        headers: { accept: restProtocol, 'user-agent': userAgent, ...length, ...authorized, ...headers },
        ...(signal === undefined ? {} : { signal }),
      })
      sent.setTimeout(silenceMsMax, () => sent.destroy(new Error(`no answer for ${silenceMsMax / 1000} s`)))
      sent.on('error', (error) => resolve({ error, reused: sent.reusedSocket }))
      sent.on('response', (answer) => resolve({ answer }))
      sent.end(body)
    })
  }

  const failed = (error: unknown, request: RestRequest): unknown => {
    if (signal?.aborted) return signal.reason
    return connectionFailure(error, request.doing, locate(request.path))
  }

  return {
    locate,
    async send(request) {
      signal?.throwIfAborted()
      let outcome = await once(request)
      // The server closed a waiting connection as we took it: the request was not seen. Never for what changes things.
      const isSafe = request.method === 'GET' || request.method === 'HEAD'
      if ('error' in outcome && outcome.reused && isSafe && errnoOf(outcome.error) === 'ECONNRESET') {
        outcome = await once(request)
      }
      if ('error' in outcome) throw failed(outcome.error, request)
      return outcome.answer
    },
    async read(answer, request, bytesMax) {
      try {
        return await answerBytes(answer, bytesMax)
      } catch (error) {
        throw failed(error, request)
      }
    },
    async *body(answer, request) {
      try {
        yield* answer
      } catch (error) {
        throw failed(error, request)
      }
    },
    async refusal(answer, request) {
      const said = await answerBytes(answer, refusalBytesMax).catch(() => undefined) // the status says enough
      return refusalFailure(answer.statusCode ?? 0, said, { doing: request.doing, where: locate(request.path) })
    },
  }
}

/** @throws Failure `options_invalid`, which does not quote what could be a password */
export function parseRestUrl(text: string): URL {
  const invalid = (message: string, hint: string) => new Failure({ code: 'options_invalid', message, hint })
  const form = 'Write it as https://HOST:PORT/USER/REPOSITORY/.'
  const url = URL.parse(text.replace(/^rest:/, ''))
  if (url === null) throw invalid('the URL of the repository is not a URL', form)
  if (url.username !== '' || url.password !== '') {
    const hint = 'Write "name:password" into a file that only you can read, and name that as the credentials file.'
    throw invalid(`the URL of the repository at ${url.host} has a user or a password in it`, hint)
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw invalid(`the URL of the repository begins with ${url.protocol}, not with https: or http:`, form)
  }
  if (url.search !== '' || url.hash !== '') throw invalid('the URL of the repository has a "?" or "#" in it', form)
  if (!url.pathname.endsWith('/')) url.pathname += '/'
  return url
}

function refusePlainCredentials(base: URL, authorization: string | undefined, options: RestServerOptions): void {
  if (authorization === undefined || base.protocol === 'https:' || options.insecureHttp === true) return
  const host = base.hostname.replace(/^\[|\]$/g, '')
  if (host === 'localhost' || host === '::1' || /^127(\.\d+){3}$/.test(host)) return
  throw new Failure({
    code: 'options_invalid',
    message: `the password for ${base.host} would be sent over plain HTTP, for everybody on the way to read`,
    hint: 'Use an https: URL; or, inside a network that is encrypted itself, set insecureHttp.',
  })
}

/** What a certificate is not trusted for; trying again changes nothing. */
const untrusted = new Set([
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'ERR_TLS_CERT_ALTNAME_INVALID',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
])

/** What went wrong on the way to a server. */
export function connectionFailure(error: unknown, doing: string, where: string): Failure {
  if (error instanceof Failure) return error
  const errno = errnoOf(error)
  if (errno === undefined || !untrusted.has(errno)) return storageFailure(error, doing, where)
  const why = error instanceof Error ? error.message : errno
  return new Failure({
    code: 'storage_failed',
    message: `${doing} ${where}: the server's certificate is not trusted: ${why}`,
    hint: 'Name the certificate of its authority as the CA file (caFile), or use the host name that it is made out for.',
    cause: error,
  })
}

interface Refused {
  readonly doing: string
  readonly where: string
}

function refusalFailure(status: number, said: Buffer | undefined, { doing, where }: Refused): Failure {
  const words = wordsOf(said)
  const message = `${doing} ${where}: the server answers ${status}${words.message === '' ? '' : `: ${words.message}`}`
  const hinted = (hint: string) => ({ hint: words.hint ?? hint })
  switch (status) {
    case 401:
      return new Failure({ code: 'storage_denied', message, ...hinted('Check the credentials file.') })
    case 403:
    case 405: {
      const hint = 'This user may not do that there; an append-only server lets nobody delete.'
      return new Failure({ code: 'storage_denied', message, ...hinted(hint) })
    }
    case 507: {
      const hint = 'Make room there, or raise the quota; what is stored already is kept.'
      return new Failure({ code: 'no_space', message, retry: 'later', ...hinted(hint) })
    }
    default: {
      // 400 to an upload: it did not arrive as it was sent.
      const mayPass = status >= 500 || [400, 408, 425, 429].includes(status)
      const hint = 'Check the URL of the repository, and the log of the server.'
      return new Failure({ code: 'storage_failed', message, retry: mayPass ? 'later' : 'never', ...hinted(hint) })
    }
  }
}

/** A `FailureReport` of `stillpoint vault`, or the first line of what another server says. */
function wordsOf(said: Buffer | undefined): { readonly message: string; readonly hint?: string } {
  const text = said?.toString('utf8').trim() ?? ''
  try {
    const report: unknown = JSON.parse(text)
    if (typeof report === 'object' && report !== null && 'message' in report && typeof report.message === 'string') {
      const hint = 'hint' in report && typeof report.hint === 'string' ? { hint: plain(report.hint) } : {}
      return { message: plain(report.message), ...hint }
    }
  } catch {
    // Not ours: plain text, or the page of a proxy.
  }
  return { message: text.startsWith('<') ? '' : plain(text.split('\n', 1)[0] ?? '') }
}

function plain(text: string): string {
  return text.replace(/\p{Cc}/gu, ' ').slice(0, 500)
}
