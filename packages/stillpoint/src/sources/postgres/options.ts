/** What `stillpoint.yaml` may say of a PostgreSQL database, and where that points. */
import { resolve } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import { secretOptions } from '../../config/secret-options.ts'

const sslModes = ['disable', 'require', 'verify-ca', 'verify-full'] as const
export type SslMode = (typeof sslModes)[number]

export const postgresOptions = z
  .strictObject({
    url: z
      .string()
      .min(1)
      .optional()
      .describe(
        'Where the database is: postgres://user@host:port/database, without a password. Or use the four fields.',
      ),
    host: z
      .string()
      .min(1)
      .optional()
      .describe('Host name, address, or the absolute path of a socket directory. Default: localhost.'),
    port: z.int().min(1).max(65535).optional().describe('TCP port. Default: 5432.'),
    database: z
      .string()
      .min(1)
      .max(63)
      .optional()
      .describe('Name of the database. Several databases of one server are several participants.'),
    user: z
      .string()
      .min(1)
      .max(63)
      .optional()
      .describe('Role to log in as. docs/sources/postgres.md lists the privileges that it needs.'),
    ...secretOptions,
    sslMode: z
      .enum(sslModes)
      .optional()
      .describe(
        'TLS, in the words of libpq. Default: disable for sockets and loopback addresses, verify-full for every other host.',
      ),
    sslRootCertFile: z
      .string()
      .min(1)
      .optional()
      .describe(
        'File with the certificates of the authorities to trust, for verify-ca and verify-full. Default: those of Node.',
      ),
    excludeSchemas: z
      .array(z.string().min(1).max(63))
      .default([])
      .describe(
        'Schemas that are neither held nor captured, by exact name. What refers to them from other schemas may not be restorable.',
      ),
    lockTimeoutMs: z
      .int()
      .min(1)
      .max(5_000)
      .default(50)
      .describe(
        'How long one try to hold the tables may wait for running transactions. Writers queue behind it for at most this long; then it gives way and tries again.',
      ),
    markBudgetMs: z
      .int()
      .min(1_000)
      .max(7 * 24 * 3_600_000)
      .default(4 * 3_600_000)
      .describe(
        'How long the snapshot of a cut may be kept open for copying. It keeps VACUUM from removing newer dead rows. The server ends it after this time.',
      ),
    toolsDir: z
      .string()
      .min(1)
      .optional()
      .describe(
        'Directory of pg_dump, pg_dumpall and pg_restore. Default: the version of the server in /usr/lib/postgresql, else the PATH.',
      ),
  })
  .superRefine((options, context) => {
    const fields = [options.host, options.port, options.database, options.user]
    if (options.url !== undefined && fields.some((field) => field !== undefined)) {
      context.addIssue({ code: 'custom', message: 'give either url, or host, port, database and user', path: ['url'] })
    }
    if (options.url === undefined && options.database === undefined) {
      context.addIssue({ code: 'custom', message: 'the name of the database is missing', path: ['database'] })
    }
    if (options.url === undefined && options.user === undefined) {
      context.addIssue({ code: 'custom', message: 'the name of the role to log in as is missing', path: ['user'] })
    }
    if (options.url !== undefined) {
      const problem = urlProblem(options.url)
      if (problem !== undefined) context.addIssue({ code: 'custom', message: problem, path: ['url'] })
    }
    if (options.passwordFile !== undefined && options.passwordCommand !== undefined) {
      context.addIssue({
        code: 'custom',
        message: 'give either passwordFile or passwordCommand',
        path: ['passwordFile'],
      })
    }
  })

export type PostgresOptions = z.output<typeof postgresOptions>

/** Where to connect, and how. */
export interface Address {
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
  readonly sslMode: SslMode
  readonly sslRootCertFile: string | undefined
}

/** @throws Failure `options_invalid` */
export function addressOf(options: PostgresOptions, baseDir: string): Address {
  const rootFile = options.sslRootCertFile
  const tls = (host: string) => ({
    sslMode: options.sslMode ?? (isLocal(host) ? 'disable' : 'verify-full'),
    sslRootCertFile: rootFile === undefined ? undefined : resolve(baseDir, rootFile),
  })
  if (options.url === undefined) {
    const { host = 'localhost', port = 5432, database, user } = options
    if (database === undefined || user === undefined) throw invalid('database and user are needed')
    return { host, port, database, user, ...tls(host) }
  }
  const problem = urlProblem(options.url)
  if (problem !== undefined) throw invalid(problem)
  const url = new URL(options.url)
  const host = decodeURIComponent(url.hostname.replace(/^\[(.*)\]$/, '$1'))
  return {
    host,
    port: url.port === '' ? 5432 : Number(url.port),
    database: decodeURIComponent(url.pathname.slice(1)),
    user: decodeURIComponent(url.username),
    ...tls(host),
  }
}

/** `database "shop" on localhost:5432`: what messages call it. */
export function describeAddress(address: Address): string {
  return `database ${JSON.stringify(address.database)} on ${address.host}:${address.port}`
}

/** What is wrong with a URL; the text never quotes it, for it may hold a password. */
function urlProblem(text: string): string | undefined {
  let url: URL
  try {
    url = new URL(text)
    decodeURIComponent(url.pathname + url.username + url.hostname)
  } catch {
    return 'this is not a URL of the form postgres://user@host:port/database'
  }
  if (url.protocol !== 'postgres:' && url.protocol !== 'postgresql:') return 'the URL must begin with postgres://'
  if (url.password !== '') return 'the URL holds a password: put it into a file and name it in passwordFile'
  if (url.search !== '' || url.hash !== '') return 'the URL may have no parameters: use the fields (sslMode, …)'
  if (url.username === '') return 'the URL names no role: postgres://user@host:port/database'
  if (url.hostname === '') return 'the URL names no host: postgres://user@host:port/database'
  if (!/^\/[^/]+$/.test(url.pathname)) return 'the URL names no database: postgres://user@host:port/database'
  return undefined
}

function invalid(message: string): Failure {
  return new Failure({ code: 'options_invalid', message: `PostgreSQL: ${message}` })
}

function isLocal(host: string): boolean {
  return host.startsWith('/') || host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}
