/**
 * `stillpoint vault serve`: restic's REST server, in one process.
 *
 * Owns: the order in which it starts and ends, its listeners, its certificates.
 *
 * Crash rules: nothing that a killed vault leaves stops the next start, and nothing of it is listed: half-written
 * uploads are removed before the first request.
 */
import { readFile, stat, statfs } from 'node:fs/promises'
import { createServer as createPlainServer, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { type Clock, describeFailure, Failure } from '@stillpoint/core/kernel'
import { errnoOf, storageFailure } from '@stillpoint/repository'
import { type FastifyInstance, fastify } from 'fastify'
import { openAuthentication } from './authentication.ts'
import { createVaultMetrics, metricsContentType, metricsText, type VaultMetrics } from './metrics.ts'
import { openObjectFiles, uploadsFolder } from './object-files.ts'
import { createUsage, type Usage } from './usage.ts'
import { createVaultApp, type ServerFactory, type VaultLog } from './vault-app.ts'
import { lockVault } from './vault-lock.ts'

export interface Address {
  readonly host: string
  readonly port: number
}

export interface VaultOptions {
  /** Absolute path of the directory of all repositories. */
  readonly root: string
  readonly usersFile: string
  readonly listen: Address
  /** PEM files. Both or none. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string }
  readonly metrics?: Address
  readonly appendOnly?: boolean
  readonly quotaBytes?: number
  /** Default: 256 MiB. */
  readonly freeBytesMin?: number
  /** Listens beyond this machine without TLS. */
  readonly insecureHttp?: boolean
  /** The longest silence of a client. Default: 2 min. */
  readonly silenceMsMax?: number
  /** How long requests that run have to end when the vault stops. Default: 30 s. */
  readonly stopMs?: number
  readonly clock: Clock
  readonly log: VaultLog
}

export interface StartedVault {
  readonly url: string
  readonly metricsUrl: string | null
  /** Lets what runs end, and takes nothing new. Idempotent. */
  close(): Promise<void>
}

export const defaultVault = { freeBytesMin: 256 * 1024 * 1024, silenceMsMax: 120_000, stopMs: 30_000 } as const
/** Longer than clients keep theirs (Go: 90 s), so that it is the client who closes a waiting connection. */
const keepAliveMs = 100_000
const connectionsMax = 1_024
const certificateLookMs = 60_000

/**
 * @throws Failure `vault_insecure`, `vault_running`, `port_in_use`, `address_unusable`, `tls_unusable`,
 *   `users_file_invalid`, `storage_…`
 */
export async function startVault(options: VaultOptions): Promise<StartedVault> {
  refuseInsecure(options)
  const lock = await lockVault(options.root)
  const closers: (() => Promise<void> | void)[] = [() => lock.release()]
  const closeAll = async () => {
    for (const close of closers.splice(0).reverse()) await close()
  }
  try {
    const files = openObjectFiles(options.root)
    // Before the next vault is let in: a request that was cut off may still be writing.
    closers.push(() => files.idle())
    const swept = await files.sweep()
    const { log } = options
    if (swept > 0) log({ level: 'info', message: `Removed ${swept} uploads that an earlier life had not finished` })
    const usage = createUsage(options.root, new Set([uploadsFolder]))
    const metrics = createVaultMetrics()
    const warn = (message: string) => log({ level: 'warn', message })
    const authentication = await openAuthentication({ usersFile: options.usersFile, clock: options.clock, warn })
    const server = await createServer(options)
    closers.push(server.stop)
    const app = createVaultApp({
      root: options.root,
      appendOnly: options.appendOnly ?? false,
      ...(options.quotaBytes === undefined ? {} : { quotaBytes: options.quotaBytes }),
      silenceMsMax: options.silenceMsMax ?? defaultVault.silenceMsMax,
      freeBytesMin: options.freeBytesMin ?? defaultVault.freeBytesMin,
      authentication,
      files,
      usage,
      metrics,
      clock: options.clock,
      log,
      createServer: server.create,
    })
    closers.push(() => stopApp(app, options))
    const url = await listen(app, options.listen, options.tls === undefined ? 'http' : 'https')
    let metricsUrl: string | null = null
    if (options.metrics !== undefined) {
      const metricsApp = createMetricsApp(options, metrics, usage)
      closers.push(() => metricsApp.close())
      metricsUrl = `${await listen(metricsApp, options.metrics, 'http')}/metrics`
    }
    log({ level: 'info', message: `The vault ${options.root} listens at ${url}` })
    let closing: Promise<void> | undefined
    const close = () => {
      closing ??= closeAll()
      return closing
    }
    return { url, metricsUrl, close }
  } catch (error) {
    await closeAll()
    throw error
  }
}

export function isLoopback(host: string): boolean {
  const plain = host.replace(/^\[|\]$/g, '')
  return plain === 'localhost' || plain === '::1' || (isIP(plain) === 4 && plain.startsWith('127.'))
}

function refuseInsecure({ listen: { host }, metrics, tls, insecureHttp }: VaultOptions): void {
  if (insecureHttp === true) return
  if (tls === undefined && !isLoopback(host)) {
    throw new Failure({
      code: 'vault_insecure',
      message: `Passwords would come to ${host} unencrypted`,
      hint: 'Give --tls-cert and --tls-key; or, behind a proxy or in a network that encrypts, --insecure-http.',
    })
  }
  if (metrics !== undefined && !isLoopback(metrics.host)) {
    throw new Failure({
      code: 'vault_insecure',
      message: `Everybody who reaches ${metrics.host} could read the metrics, with the names of users`,
      hint: 'Let them listen on 127.0.0.1; or, in a network of your own, give --insecure-http.',
    })
  }
}

/** The server under Fastify, with the limits of its connections, and its certificates followed. */
async function createServer({ tls, silenceMsMax, clock, log }: VaultOptions) {
  const certificates = tls === undefined ? undefined : await readCertificates(tls)
  let cancel = () => {}
  const create: ServerFactory = (handler) => {
    const limits = { requestTimeout: 0, keepAliveTimeout: keepAliveMs }
    if (certificates === undefined || tls === undefined) return limited(createPlainServer(limits, handler))
    const server = createTlsServer({ ...limits, ...certificates, minVersion: 'TLSv1.2' }, handler)
    let mark = certificates.mark
    const look = async () => {
      try {
        const next = await readCertificates(tls)
        if (next.mark !== mark) {
          server.setSecureContext({ cert: next.cert, key: next.key, minVersion: 'TLSv1.2' })
          log({ level: 'info', message: 'The certificate was replaced' })
        }
        mark = next.mark
      } catch (error) {
        log({ level: 'error', message: `The certificate as it was goes on: ${describeFailure(error).message}` })
      }
      cancel = clock.after(certificateLookMs, () => void look())
    }
    cancel = clock.after(certificateLookMs, () => void look())
    return limited(server)
  }
  const limited = (server: Server): Server => {
    server.maxConnections = connectionsMax
    // Until a request has come; from there on vault-app.ts knows whom we wait for.
    server.setTimeout(silenceMsMax ?? defaultVault.silenceMsMax)
    return server
  }
  return { create, stop: () => cancel() }
}

async function readCertificates({ certFile, keyFile }: NonNullable<VaultOptions['tls']>) {
  try {
    const [cert, key] = await Promise.all([readFile(certFile), readFile(keyFile)])
    const marks = await Promise.all([certFile, keyFile].map(async (path) => (await stat(path)).mtimeMs))
    return { cert, key, mark: marks.join(' ') }
  } catch (error) {
    throw storageFailure(error, 'reading the certificate and its key', join(certFile))
  }
}

async function listen(app: FastifyInstance, { host, port }: Address, scheme: 'http' | 'https'): Promise<string> {
  try {
    await app.listen({ host, port })
  } catch (cause) {
    const where = `${host}:${port}`
    if (errnoOf(cause) === 'EADDRINUSE') {
      const message = `Another program listens on ${where}`
      throw new Failure({ code: 'port_in_use', message, hint: 'Stop it, or choose another port.', cause })
    }
    const why = cause instanceof Error ? cause.message : String(cause)
    const message = `The vault cannot listen on ${where}: ${why}`
    throw new Failure({ code: 'address_unusable', message, hint: 'Choose an address of this machine.', cause })
  }
  const address = app.server.address()
  const actual = address === null || typeof address === 'string' ? port : address.port
  return `${scheme}://${isIP(host) === 6 ? `[${host}]` : host}:${actual}`
}

async function stopApp(app: FastifyInstance, { clock, log, stopMs }: VaultOptions): Promise<void> {
  const cancel = clock.after(stopMs ?? defaultVault.stopMs, () => {
    log({ level: 'warn', message: 'Some requests did not end in time, and are cut off' })
    app.server.closeAllConnections()
  })
  try {
    await app.close()
  } finally {
    cancel()
  }
}

/** A listener of its own: whoever may read the metrics need not be a user, and the other way round. */
function createMetricsApp({ root, clock }: VaultOptions, metrics: VaultMetrics, usage: Usage): FastifyInstance {
  const startedMs = clock.monotonicMs()
  const app = fastify({ exposeHeadRoutes: false })
  app.get('/metrics', async (_request, reply) => {
    const { bavail, bsize } = await statfs(root)
    const uptimeSeconds = (clock.monotonicMs() - startedMs) / 1000
    return reply
      .type(metricsContentType)
      .send(metricsText(metrics, { usage, diskFreeBytes: bavail * bsize, uptimeSeconds }))
  })
  return app
}
