/** What `stillpoint.yaml` may say of a Redis or Valkey server, and where that points. */
import { isAbsolute, resolve } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { z } from 'zod'
import { secretOptions } from '../../config/secret-options.ts'

export const redisOptions = z
  .strictObject({
    url: z
      .string()
      .min(1)
      .optional()
      .describe(
        'Where the server is: redis://user@host:port, or rediss:// for TLS; without a password and a database, for all databases are captured.',
      ),
    host: z
      .string()
      .min(1)
      .optional()
      .describe('Host name, address, or the absolute path of a Unix socket. Default: localhost.'),
    port: z.int().min(1).max(65535).optional().describe('TCP port. Default: 6379.'),
    user: z
      .string()
      .min(1)
      .optional()
      .describe('ACL user. Default: the default user. docs/sources/redis.md lists the commands that it needs.'),
    ...secretOptions,
    tls: z.boolean().optional().describe('Speak TLS, and check the server’s certificate. Default: false.'),
    tlsCaFile: z
      .string()
      .min(1)
      .optional()
      .describe('File with the certificates of the authorities to trust. Default: those of Node.'),
    dataDir: z
      .string()
      .min(1)
      .optional()
      .describe(
        'Where this machine sees the directory that the server writes its RDB file to, when the path is another one than the server’s own `dir`: a container’s volume, for one.',
      ),
  })
  .superRefine((options, context) => {
    const { url, host, port, user, tls } = options
    if (url !== undefined && [host, port, user, tls].some((field) => field !== undefined)) {
      context.addIssue({ code: 'custom', message: 'give either url, or host, port, user and tls', path: ['url'] })
    }
    const problem = url === undefined ? undefined : urlProblem(url)
    if (problem !== undefined) context.addIssue({ code: 'custom', message: problem, path: ['url'] })
    if (options.passwordFile !== undefined && options.passwordCommand !== undefined) {
      context.addIssue({
        code: 'custom',
        message: 'give either passwordFile or passwordCommand',
        path: ['passwordFile'],
      })
    }
  })

export type RedisOptions = z.output<typeof redisOptions>

export interface Address {
  /** Host name or address; or the path of a socket. */
  readonly host: string
  readonly port: number
  readonly user: string | undefined
  readonly tls: boolean
  readonly tlsCaFile: string | undefined
}

/** @throws Failure `options_invalid` */
export function addressOf(options: RedisOptions, baseDir: string): Address {
  const tlsCaFile = options.tlsCaFile === undefined ? undefined : resolve(baseDir, options.tlsCaFile)
  if (options.url === undefined) {
    const { host = 'localhost', port = 6379, user, tls = false } = options
    return { host, port, user, tls, tlsCaFile }
  }
  const problem = urlProblem(options.url)
  if (problem !== undefined) throw new Failure({ code: 'options_invalid', message: `Redis: ${problem}` })
  const url = new URL(options.url)
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? 6379 : Number(url.port),
    user: url.username === '' ? undefined : decodeURIComponent(url.username),
    tls: url.protocol === 'rediss:',
    tlsCaFile,
  }
}

export function describeAddress(address: Address): string {
  return isAbsolute(address.host) ? `Redis on ${address.host}` : `Redis on ${address.host}:${address.port}`
}

/** Never quotes the URL, for it may hold a password. */
function urlProblem(text: string): string | undefined {
  let url: URL
  try {
    url = new URL(text)
    decodeURIComponent(url.username)
  } catch {
    return 'this is not a URL of the form redis://host:port'
  }
  if (!['redis:', 'rediss:'].includes(url.protocol)) return 'the URL must begin with redis:// or rediss://'
  if (url.password !== '') return 'the URL holds a password: put it into a file and name it in passwordFile'
  if (url.hostname === '') return 'the URL names no host'
  if (url.pathname !== '' && url.pathname !== '/')
    return 'the URL names a database: all databases of a server are captured together'
  if (url.search !== '' || url.hash !== '') return 'the URL may have no parameters'
  return undefined
}
