/**
 * From a location as restic writes it, `/srv/backup`, `rest:https://…`, `s3:https://…`, to its store.
 *
 * Owns: which backend it is, and the options of a backend that `-o` gives. Does not own: where the location is named.
 */
import { resolve } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import type { BlobStore, S3StoreOptions } from '@stillpoint/repository'
import { InvalidArgumentError, Option } from 'commander'
import type { CommandSession } from '../session.ts'
import { duration } from './arguments.ts'

export interface LocationOptions {
  readonly restCredentialsFile?: string
  readonly cacert?: string
  readonly tlsClientCert?: string
  readonly insecureTls?: true
  readonly httpUserAgent?: string
  /** Milliseconds. */
  readonly stuckRequestTimeout?: number
  /** Values by name, of backends: `s3.region`. */
  readonly option?: BackendOptions
}

export type BackendOptions = Readonly<Record<string, string>>

/** For the help: restic's names, and ours below them. */
const backendOptionNames = [
  'rest.connections',
  's3.region',
  's3.bucket-lookup',
  's3.storage-class',
  's3.connections',
  's3.profile',
  's3.credentials-file',
  's3.object-lock',
  's3.as-of',
] as const

/** One `-o name=value` more. */
function backendOption(text: string, earlier: BackendOptions = {}): BackendOptions {
  const [, name = '', value = ''] = /^([^=]+)=(.+)$/s.exec(text) ?? []
  if (backendOptionNames.some((known) => known === name)) return { ...earlier, [name]: value }
  throw new InvalidArgumentError(`Give NAME=VALUE, where NAME is one of ${backendOptionNames.join(', ')}.`)
}

export const locationOptions = (): readonly Option[] => [
  new Option('--rest-credentials-file <file>', 'file with "name:password" or a token for a REST server'),
  new Option('--cacert <file>', 'certificates to trust, PEM; default: $RESTIC_CACERT').argParser(oneFile),
  new Option('--tls-client-cert <file>', 'certificate and key of this client, PEM; default: $RESTIC_TLS_CLIENT_CERT'),
  new Option('--insecure-tls', 'trust any server'),
  new Option('--http-user-agent <text>', 'what we call ourselves at a server').argParser(headerText),
  new Option('--stuck-request-timeout <time>', 'how long a request may stand still; default: 5m').argParser(stuckTime),
  new Option('-o, --option <name=value>', `of a backend: ${backendOptionNames.join(', ')}`).argParser(backendOption),
]

function oneFile(text: string, earlier?: string): string {
  if (earlier === undefined) return text
  throw new InvalidArgumentError('Put all certificates into one file.')
}

function headerText(text: string): string {
  if (/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(text)) return text
  throw new InvalidArgumentError('Give printable ASCII characters.')
}

function stuckTime(text: string): number {
  const ms = duration(text)
  if (ms > 0 && ms <= stuckMsMost) return ms
  throw new InvalidArgumentError('Give a time above 0, and of up to a day.')
}

const stuckMsMost = 86_400_000
/** As restic: servers that pass on what they get to slower ones say nothing for long. */
const stuckMsDefault = 300_000
const graceMs = 10_000

/** @throws Failure `options_invalid`, `secret_…` of a credentials file, `storage_failed` (CA file) */
export async function openLocation(
  { host, output }: CommandSession,
  location: string,
  options: LocationOptions,
): Promise<BlobStore> {
  const repository = await import('@stillpoint/repository')
  const { openLocalStore, openRestStore, openS3Store, retryingStore } = repository
  const { clock, random, cwd } = host
  const signal = afterGrace(host.signal)
  const { option = {} } = options
  const server = { signal, ...tlsOf(cwd, options), ...requestsOf(options) }
  if (location.startsWith('rest:')) {
    const connections = connectionsOf(option, 'rest.connections')
    const store = await openRestStore({
      url: location,
      ...server,
      ...restCredentials({ host, output }, options),
      ...connections,
    })
    return retryingStore(store, { clock, random, signal })
  }
  if (location.startsWith('s3:')) {
    const settings = s3Settings(option, { cwd, storageClasses: repository.s3StorageClasses })
    return retryingStore(await openS3Store({ location, clock, ...server, ...settings }), { clock, random, signal })
  }
  const [, scheme] = /^(sftp|b2|azure|gs|swift|rclone):/.exec(location) ?? []
  if (scheme === undefined) return openLocalStore(resolve(cwd, location.replace(/^local:/, '')))
  throw new Failure({
    code: 'options_invalid',
    message: `repositories behind "${scheme}:" cannot be reached by this command`,
    hint: 'Name a directory, rest:URL, or s3:URL.',
  })
}

function requestsOf({ httpUserAgent, stuckRequestTimeout = stuckMsDefault }: LocationOptions) {
  return { silenceMsMax: stuckRequestTimeout, ...(httpUserAgent === undefined ? {} : { userAgent: httpUserAgent }) }
}

function tlsOf(cwd: string, { cacert, tlsClientCert, insecureTls }: LocationOptions) {
  const caFile = cacert ?? process.env['RESTIC_CACERT'] ?? ''
  const clientFile = tlsClientCert ?? process.env['RESTIC_TLS_CLIENT_CERT'] ?? ''
  return {
    ...(caFile === '' ? {} : { caFile: resolve(cwd, caFile) }),
    ...(clientFile === '' ? {} : { clientCertificateFile: resolve(cwd, clientFile) }),
    ...(insecureTls === true ? { insecureTls } : {}),
  }
}

/** A file, or restic's two variables, which other programs of the user can read. */
function restCredentials({ host, output }: CommandSession, { restCredentialsFile: file }: LocationOptions) {
  if (file !== undefined) return { credentialsFile: resolve(host.cwd, file) }
  const { RESTIC_REST_USERNAME: name = '', RESTIC_REST_PASSWORD: password = '' } = process.env
  if (name === '' && password === '') return {}
  const use = 'use --rest-credentials-file'
  output.warning(`a password stands in RESTIC_REST_PASSWORD, where other programs of this user can read it; ${use}`)
  return { credentials: { name, password } }
}

/**
 * Aborts a while later: what is interrupted gives its locks back, and that takes requests. A server that does not answer
 * then holds nobody up for longer.
 */
function afterGrace(signal: AbortSignal): AbortSignal {
  const late = new AbortController()
  // Unlike the clock's timers this one keeps no process alive.
  const begin = () => AbortSignal.timeout(graceMs).addEventListener('abort', () => late.abort(signal.reason))
  if (signal.aborted) begin()
  else signal.addEventListener('abort', begin, { once: true })
  return late.signal
}

function invalidOption(option: BackendOptions, name: string, form: string): Failure {
  const message = `-o ${name}: ${form}, not ${JSON.stringify(option[name])}`
  return new Failure({ code: 'options_invalid', message })
}

function connectionsOf(option: BackendOptions, name: 'rest.connections' | 's3.connections') {
  const { [name]: text } = option
  if (text === undefined) return {}
  if (/^[1-9]\d{0,2}$/.test(text)) return { connectionsMax: Number(text) }
  throw invalidOption(option, name, 'give a number from 1 to 999')
}

type S3Settings = Pick<
  S3StoreOptions,
  'region' | 'profile' | 'credentialsFile' | 'addressing' | 'connectionsMax' | 'storageClass' | 'retention' | 'asOf'
>

interface Settings {
  readonly cwd: string
  readonly storageClasses: readonly NonNullable<S3StoreOptions['storageClass']>[]
}

function s3Settings(option: BackendOptions, { cwd, storageClasses }: Settings): S3Settings {
  const invalid = (name: string, form: string) => invalidOption(option, name, form)
  const { 's3.region': region, 's3.profile': profile, 's3.credentials-file': file } = option
  const { 's3.bucket-lookup': lookup = 'auto', 's3.object-lock': lock } = option
  const { 's3.storage-class': className } = option
  if (!['auto', 'dns', 'path'].includes(lookup)) throw invalid('s3.bucket-lookup', 'give auto, dns or path')
  const storageClass = storageClasses.find((known) => known === className)
  if (className !== undefined && storageClass === undefined) {
    throw invalid('s3.storage-class', `give one that is read at once: ${storageClasses.join(', ')}`)
  }
  const [, mode, days] = /^(GOVERNANCE|COMPLIANCE):([1-9]\d{0,4})d$/.exec(lock ?? '') ?? []
  if (lock !== undefined && mode === undefined) {
    throw invalid('s3.object-lock', 'give GOVERNANCE or COMPLIANCE with days, such as GOVERNANCE:30d')
  }
  return {
    ...(region === undefined ? {} : { region }),
    ...(profile === undefined ? {} : { profile }),
    ...(file === undefined ? {} : { credentialsFile: resolve(cwd, file) }),
    ...(lookup === 'auto' ? {} : { addressing: lookup === 'dns' ? 'host' : 'path' }),
    ...connectionsOf(option, 's3.connections'),
    ...(storageClass === undefined ? {} : { storageClass }),
    ...asOfSetting(option),
    ...(mode === 'GOVERNANCE' || mode === 'COMPLIANCE' ? { retention: { mode, days: Number(days) } } : {}),
  }
}

const moment = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,3})?(?:Z|[+-]\d\d:\d\d)$/

function asOfSetting(option: BackendOptions): Pick<S3StoreOptions, 'asOf'> {
  const { 's3.as-of': text } = option
  if (text === undefined) return {}
  const asOf = new Date(text)
  if (moment.test(text) && !Number.isNaN(asOf.getTime())) return { asOf }
  throw invalidOption(option, 's3.as-of', 'give a moment with its zone, such as 2026-11-20T22:00:00Z')
}
