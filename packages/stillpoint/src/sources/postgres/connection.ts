/**
 * One session with PostgreSQL. A thin layer over the `pg` client for what the protocol needs and `pg` does not give:
 * cancelling by AbortSignal, destroying at once even when the server hangs, and knowing when and why a session ended.
 *
 * Invariants:
 * - A query that was cancelled has destroyed the session: what state it was in is never guessed.
 * - `lost` is set from the moment this side knows that the session has ended, and never reset.
 */
import { readFile } from 'node:fs/promises'
import { Socket } from 'node:net'
import { Failure } from '@stillpoint/core/kernel'
import { Client, type ClientConfig } from 'pg'
import { z } from 'zod'
import { connectFailure, endsSession, postgresFailure } from './errors.ts'
import { type Address, describeAddress } from './options.ts'

const connectTimeoutMs = 10_000
const endTimeoutMs = 2_000

export interface Login {
  readonly address: Address
  readonly password: string | undefined
}

export interface Connection {
  /** Why the session is over, or undefined while it lives. */
  readonly lost: Failure | undefined
  /** Process id of the session at the server. */
  readonly pid: number
  /**
   * Runs SQL, possibly several statements, and answers the rows of each.
   * @throws Failure by `postgresFailure`; the signal's reason when aborted, and then the session is destroyed
   */
  run(text: string, signal: AbortSignal): Promise<readonly StatementResult[]>
  /** Runs one statement with parameters, and answers its rows as the schema reads them. */
  rows<T>(row: z.ZodType<T>, text: string, signal: AbortSignal, values?: readonly unknown[]): Promise<readonly T[]>
  /** Ends it at once, without the server's help; an open transaction is rolled back there. Idempotent. */
  destroy(): void
  /** Says goodbye, within 2 s; else destroys. Idempotent. */
  end(): Promise<void>
}

export interface StatementResult {
  /** First word of the command tag: `COMMIT`, `LOCK`, `SELECT`. */
  readonly command: string
  readonly rows: readonly Readonly<Record<string, unknown>>[]
}

/** @throws Failure `store_unreachable` | `store_refused_password` | `store_database_unknown` | `store_privilege_missing` */
export async function connect(login: Login, signal: AbortSignal): Promise<Connection> {
  signal.throwIfAborted()
  const { address } = login
  const socket = new Socket()
  const client = new Client({
    host: address.host,
    port: address.port,
    database: address.database,
    user: address.user,
    // A function, so that neither PGPASSWORD nor ~/.pgpass stands in for what the configuration says.
    password: () => login.password ?? '',
    ssl: await tlsOptions(address),
    application_name: 'stillpoint',
    connectionTimeoutMillis: connectTimeoutMs,
    keepAlive: true,
    stream: () => socket,
  })
  let lost: Failure | undefined
  const lose = (why: Failure) => {
    lost ??= why
  }
  client.on('error', (error) => lose(postgresFailure(error, `keep the session with ${describeAddress(address)}`)))
  client.on('end', () => lose(new Failure({ code: 'store_lost', message: 'the session has ended', retry: 'later' })))
  const destroy = () => {
    lose(new Failure({ code: 'store_lost', message: 'the session was ended by us', retry: 'later' }))
    socket.destroy()
  }
  try {
    await unlessAborted(client.connect(), signal, destroy)
  } catch (error) {
    destroy()
    signal.throwIfAborted()
    throw connectFailure(error, describeAddress(address), address.user)
  }
  return session({ client, destroy, lost: () => lost, lose })
}

interface Session {
  readonly client: Client
  readonly destroy: () => void
  readonly lost: () => Failure | undefined
  readonly lose: (why: Failure) => void
}

function session({ client, destroy, lost, lose }: Session): Connection {
  const guarded = async <T>(what: string, signal: AbortSignal, act: () => Promise<T>): Promise<T> => {
    signal.throwIfAborted()
    const gone = lost()
    if (gone !== undefined) throw gone
    try {
      return await unlessAborted(act(), signal, destroy)
    } catch (error) {
      signal.throwIfAborted()
      const failure = lost() ?? postgresFailure(error, what)
      if (endsSession(error)) lose(failure)
      throw failure
    }
  }
  return {
    get lost() {
      return lost()
    },
    pid: processId(client),
    async run(text, signal) {
      const answer: unknown = await guarded(firstWords(text), signal, () => client.query(text))
      return z.array(statementResult).parse(Array.isArray(answer) ? answer : [answer])
    },
    async rows(row, text, signal, values = []) {
      const answer = await guarded(firstWords(text), signal, () => client.query(text, [...values]))
      return z.array(row).parse(answer.rows)
    },
    destroy,
    async end() {
      if (lost() !== undefined) return destroy()
      const timer = setTimeout(destroy, endTimeoutMs)
      try {
        await client.end()
      } catch {
        // It is to end, and it ends: `destroy` below does what the goodbye could not.
      } finally {
        clearTimeout(timer)
        destroy()
      }
    },
  }
}

const statementResult = z
  .object({ command: z.string().nullable(), rows: z.array(z.record(z.string(), z.unknown())) })
  .transform(({ command, rows }): StatementResult => ({ command: command ?? '', rows }))

function processId(client: Client): number {
  return z.object({ processID: z.int() }).parse(client).processID
}

/** The beginning of a statement, for messages: a LOCK over a thousand tables is cut short. */
function firstWords(text: string): string {
  const line = text.replaceAll(/\s+/g, ' ').trim()
  return `run ${JSON.stringify(line.length > 80 ? `${line.slice(0, 80)}…` : line)}`
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

async function tlsOptions(address: Address): Promise<NonNullable<ClientConfig['ssl']>> {
  const { sslMode, sslRootCertFile } = address
  if (sslMode === 'disable') return false
  if (sslMode === 'require' && sslRootCertFile === undefined) return { rejectUnauthorized: false }
  let ca: string | undefined
  try {
    ca = sslRootCertFile === undefined ? undefined : await readFile(sslRootCertFile, 'utf8')
  } catch (cause) {
    throw new Failure({
      code: 'options_invalid',
      message: `cannot read sslRootCertFile ${sslRootCertFile}`,
      hint: 'It must be a PEM file that this user can read.',
      cause,
    })
  }
  const trusted = { rejectUnauthorized: true, ...(ca === undefined ? {} : { ca }) }
  if (sslMode === 'verify-full') return trusted
  // verify-ca, and require with a root file, as libpq has it: the chain is checked, the name is not.
  return { ...trusted, checkServerIdentity: () => undefined }
}
