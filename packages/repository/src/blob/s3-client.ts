/**
 * Owns requests to one bucket: the SDK, which is loaded when the first store on S3 is opened and not before, its
 * connections, credentials, region, timeouts and aborts. Does not own what the requests mean (s3-store.ts,
 * s3-upload.ts), nor repeating them (retrying.ts): the SDK's own retries are off.
 *
 * Invariants: 1. at most `connectionsMax` requests are under way, each with its answer read to the end: more would wait
 * inside the SDK, and its timeouts would count that. 2. Checksums that older servers do not know are neither sent nor
 * asked for; what is uploaded is covered by the signature, and what is read by the repository's own.
 */
import { addAbortSignal, Readable } from 'node:stream'
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3'
import { Failure } from '@stillpoint/core/kernel'
import { answerBytes } from './answer-bytes.ts'
import { readS3Credentials } from './s3-credentials.ts'
import { s3Failure } from './s3-failure.ts'
import { parseS3Location } from './s3-location.ts'
import { readTlsSettings, type TlsOptions } from './tls-options.ts'

export interface S3ClientOptions extends TlsOptions {
  /** `s3:https://HOST[:PORT]/BUCKET[/PREFIX]` or `s3:HOST/BUCKET[/PREFIX]`. */
  readonly location: string
  /** Default: what the host's name says, `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile; then `us-east-1`. */
  readonly region?: string
  /** Of the shared files in ~/.aws, or of the credentials file. Default: `AWS_PROFILE`, then `default`. */
  readonly profile?: string
  /** File as ~/.aws/credentials, which then is the only place where credentials come from. */
  readonly credentialsFile?: string
  /** Where the bucket's name stands: in the path or in the host's name. Default: `host` on Amazon, else `path`. */
  readonly addressing?: 'path' | 'host'
  /** The longest time in which nothing is sent or received for a request that is under way. Default: 60 s. */
  readonly silenceMsMax?: number
  /** What we call ourselves there. Default: what the SDK says, and `stillpoint`. */
  readonly userAgent?: string
  /** Requests under way at once; more wait. Default: 8. */
  readonly connectionsMax?: number
  /** Ends all requests, which then throw its reason. */
  readonly signal?: AbortSignal
}

/** The module, as it is loaded. */
export type S3Sdk = typeof import('@aws-sdk/client-s3')

export interface RequestOptions {
  readonly abortSignal?: AbortSignal
}

export interface S3Doing {
  readonly doing: string
  /** Below the repository; empty for the bucket. */
  readonly path: string
}

export interface S3Bucket {
  readonly sdk: S3Sdk
  readonly bucket: string
  /** Of Amazon's own S3, whose behaviour need not be found out. */
  readonly isAmazon: boolean
  readonly region: string
  /** The bucket's own name for a path below the repository. */
  keyOf(path: string): string
  /** For messages: the address of a path below the repository. */
  locate(path: string): string
  /**
   * Runs one request, and what it does with the answer. What it throws is left as it is, for its caller to look at.
   * `unheeding`: also after the abort, for what cleans up.
   */
  send<T>(action: (client: S3Client, options: RequestOptions) => Promise<T>, unheeding?: boolean): Promise<T>
  /** What such an error means: the reason of the signal when aborted, else a `Failure`. */
  failure(error: unknown, request: S3Doing): unknown
}

const defaultSilenceMsMax = 60_000
const connectMsMax = 10_000
const defaultConnectionsMax = 8
/** As Amazon's own tools take it where nothing else is said, and servers that have but one. */
const defaultRegion = 'us-east-1'

/** @throws Failure `options_invalid`, `secret_…` of the credentials file, `storage_failed` (CA file) */
export async function connectS3(options: S3ClientOptions): Promise<S3Bucket> {
  const { endpoint, amazon, bucket, prefix } = parseS3Location(options.location)
  const { signal, profile } = options
  const config: S3ClientConfig = {
    ...(amazon === undefined ? { endpoint } : {}),
    ...(profile === undefined ? {} : { profile }),
    ...(await credentialsOf(options)),
    forcePathStyle: (options.addressing ?? (amazon === undefined ? 'path' : 'host')) === 'path',
    followRegionRedirects: amazon !== undefined,
    maxAttempts: 1,
    // Invariant 2.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // Servers that do not answer it cost six seconds for each upload.
    expectContinueHeader: false,
    requestHandler: await handlerOptions(options),
    customUserAgent: 'stillpoint',
  }
  const sdk = await import('@aws-sdk/client-s3')
  const { client, region } = await clientIn(sdk, config, options.region ?? amazon?.region)
  if (options.userAgent !== undefined) callOurselves(client, options.userAgent)
  const inTurn = slots(options.connectionsMax ?? defaultConnectionsMax)
  const locate = (path: string) => `${endpoint}/${bucket}/${prefix}${path}`
  const heeding: RequestOptions = signal === undefined ? {} : { abortSignal: signal }
  return {
    sdk,
    bucket,
    isAmazon: amazon !== undefined,
    region,
    keyOf: (path) => prefix + path,
    locate,
    send: (action, unheeding = false) =>
      inTurn(async () => {
        if (!unheeding) signal?.throwIfAborted()
        return action(client, unheeding ? {} : heeding)
      }),
    failure(error, { doing, path }) {
      if (signal?.aborted) return signal.reason
      return s3Failure(error, { doing, where: locate(path) })
    },
  }
}

/** After the SDK has written its own; it is not signed. */
function callOurselves(client: S3Client, userAgent: string): void {
  client.middlewareStack.add(
    (next) => (args) => {
      const { request } = args
      if (isWithHeaders(request)) request.headers['user-agent'] = userAgent
      return next(args)
    },
    { step: 'finalizeRequest', priority: 'low', name: 'stillpointUserAgent' },
  )
}

function isWithHeaders(request: unknown): request is { readonly headers: Record<string, string> } {
  return typeof request === 'object' && request !== null && 'headers' in request && typeof request.headers === 'object'
}

/** Only where a file is named: else the SDK looks in the usual places. */
async function credentialsOf({ credentialsFile, profile }: S3ClientOptions): Promise<S3ClientConfig> {
  if (credentialsFile === undefined) return {}
  // Read at once, so that a mistake in it shows before anything is done.
  const credentials = await readS3Credentials(credentialsFile, profile ?? process.env['AWS_PROFILE'] ?? 'default')
  return { credentials }
}

async function handlerOptions(options: S3ClientOptions): Promise<NonNullable<S3ClientConfig['requestHandler']>> {
  // Slots bound the requests (invariant 1). `lifo`: few connections that are in use, rather than many that idle.
  const pool = { keepAlive: true, scheduling: 'lifo' } as const
  // As the SDK: loaded when the first store on S3 is opened and not before.
  const { Agent: PlainAgent } = await import('node:http')
  const { Agent: TlsAgent } = await import('node:https')
  return {
    httpAgent: new PlainAgent(pool),
    httpsAgent: new TlsAgent({ ...pool, ...(await readTlsSettings(options)) }),
    connectionTimeout: connectMsMax,
    socketTimeout: options.silenceMsMax ?? defaultSilenceMsMax,
  }
}

interface RegionalClient {
  readonly client: S3Client
  readonly region: string
}

/** The SDK finds `AWS_REGION` and the profile's region; without any it would refuse every request. */
async function clientIn(sdk: S3Sdk, config: S3ClientConfig, named: string | undefined): Promise<RegionalClient> {
  if (named === undefined) {
    const client = new sdk.S3Client(config)
    try {
      return { client, region: await client.config.region() }
    } catch {
      // None is set, which is no error on servers that have no regions.
      client.destroy()
    }
  }
  const region = named ?? (process.env['AWS_DEFAULT_REGION'] || defaultRegion)
  return { client: new sdk.S3Client({ ...config, region }), region }
}

/** At most `count` at a time, in the order of the calls. */
function slots(count: number): <T>(action: () => Promise<T>) => Promise<T> {
  let free = count
  const waiting: (() => void)[] = []
  return async (action) => {
    if (free > 0) free -= 1
    else await new Promise<void>((resolve) => waiting.push(resolve))
    try {
      return await action()
    } finally {
      const next = waiting.shift()
      if (next === undefined) free += 1
      else next()
    }
  }
}

/** The bytes of an answer, at most `bytesMax`; a connection that ends early is an error. */
export async function bodyBytes(body: unknown, bytesMax: number, { abortSignal }: RequestOptions): Promise<Buffer> {
  if (!(body instanceof Readable)) throw new Failure({ code: 'storage_failed', message: 'an answer without a body' })
  if (abortSignal !== undefined) addAbortSignal(abortSignal, body)
  return await answerBytes(body, bytesMax)
}
