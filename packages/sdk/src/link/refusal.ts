/** What a server says when it refuses by HTTP: the body is the failure as JSON, where it is Stillpoint that answers. */
import { parseFrame, readFailureReport } from '@stillpoint/core'
import { Failure, isFailure } from '@stillpoint/core/kernel'

/** `null` where the answer comes from somebody else: a proxy, an older server. */
export function failureIn(body: string): Failure | null {
  try {
    return new Failure(parseFrame(body, readFailureReport, 'refusal'))
  } catch (error) {
    if (isFailure(error, 'frame_invalid')) return null
    throw error
  }
}

/** Why the upgrade to a session was refused. */
export function sessionRefusal(status: number, body: string): Failure {
  if (status === 401 || status === 403) {
    const hint = 'Give this service the token that `stillpoint up` uses for the system.'
    const message = `Stillpoint refuses the token (HTTP ${status})`
    return new Failure({ code: 'token_refused', message, hint, retry: 'later' })
  }
  const message = `Stillpoint answers HTTP ${status} to the session`
  return failureIn(body) ?? new Failure({ code: 'server_refused', message, retry: 'later' })
}
