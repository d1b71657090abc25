/**
 * What PostgreSQL's errors mean to a user: SQLSTATE to `Failure`. Texts of the server are quoted, never matched, for
 * they come in the server's language.
 */
import { Failure } from '@stillpoint/core/kernel'
import { DatabaseError } from 'pg'

/** SQLSTATE of an error of the server, else undefined. PostgreSQL documentation, appendix A. */
export function sqlState(error: unknown): string | undefined {
  return error instanceof DatabaseError ? error.code : undefined
}

const lostStates = new Set(['57P01', '57P02', '57P05', '25P03', '25P04'])

/** Whether the session is over: the server said so, or the connection broke. */
export function endsSession(error: unknown): boolean {
  const state = sqlState(error)
  if (state === undefined) return !(error instanceof DatabaseError)
  return lostStates.has(state) || state.startsWith('08')
}

/** @param what what was being tried, as in "cannot …" */
export function postgresFailure(error: unknown, what: string): Failure {
  if (error instanceof Failure) return error
  const detail = error instanceof Error ? error.message : String(error)
  const message = `cannot ${what}: ${detail}`
  const state = sqlState(error)
  const make = (code: string, hint: string, retry: 'never' | 'later' = 'never') =>
    new Failure({ code, message, hint, retry, cause: error })
  if (state === undefined || lostStates.has(state) || state.startsWith('08')) {
    return make('store_lost', 'The connection ended. Look into the server’s log, and try again.', 'later')
  }
  switch (state) {
    case '42501':
      return make('store_privilege_missing', 'docs/sources/postgres.md lists the GRANTs that the role needs.')
    case '53100':
      return make('disk_full', 'Free some space on the server’s disk.')
    case '53200':
      return make('store_out_of_memory', 'Raise max_locks_per_transaction in postgresql.conf, and restart the server.')
    case '55P03':
      return make('hold_unavailable', 'Transactions held their locks for too long. Try again.', 'later')
    case '57014':
      return make('store_cancelled', 'The server cancelled the statement. Try again.', 'later')
    default:
      return make('store_failed', `PostgreSQL says SQLSTATE ${state}.`)
  }
}

/** Why a connection could not be had. @param target as `describeAddress` names it */
export function connectFailure(error: unknown, target: string, user: string): Failure {
  if (error instanceof Failure) return error
  const detail = error instanceof Error ? describeCause(error) : String(error)
  const make = (code: string, message: string, hint: string, retry: 'never' | 'later' = 'never') =>
    new Failure({ code, message: `${message}: ${detail}`, hint, retry, cause: error })
  const state = sqlState(error)
  const role = `the role ${JSON.stringify(user)}`
  if (state === '28P01' || detail.includes('client password must be')) {
    const hint = 'Check passwordFile or passwordCommand: the server wants the password of this role.'
    return make('store_refused_password', `${target} refused the password of ${role}`, hint)
  }
  if (state?.startsWith('28')) {
    return make(
      'store_refused_password',
      `${target} refused ${role}`,
      'Check user, sslMode and the server’s pg_hba.conf.',
    )
  }
  if (state === '3D000') {
    return make('store_database_unknown', `there is no ${target}`, 'Check the database’s name, or create it.')
  }
  if (state === '42501') {
    return make('store_privilege_missing', `${role} may not connect to ${target}`, `Grant it CONNECT on the database.`)
  }
  if (state === '53300') {
    return make(
      'store_unreachable',
      `${target} has no connection left`,
      'Raise max_connections, or try again.',
      'later',
    )
  }
  if (detail.includes('does not support SSL')) {
    const hint = 'Switch TLS on at the server, or set sslMode: disable where the network can be trusted.'
    return make('store_unreachable', `${target} speaks no TLS`, hint)
  }
  if (isCertificateError(error)) {
    const hint =
      'Name the authority’s certificate in sslRootCertFile, or set sslMode: require where names need no proof.'
    return make('store_unreachable', `${target} shows a certificate that is not trusted`, hint)
  }
  const hint = 'Check host and port, and that the server runs and listens there.'
  return make('store_unreachable', `${target} cannot be reached`, hint, 'later')
}

function describeCause(error: Error): string {
  // Node tries every address of a name, and then says nothing itself.
  if (error instanceof AggregateError) return error.errors.map((each) => String(each?.message ?? each)).join('; ')
  return error.message
}

function isCertificateError(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return /CERT|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER/.test(code)
}
