/**
 * Who may speak to the server at all: the checks on a request's headers that come before everything else.
 *
 * The token is what lets in. The checks of `host` and `origin` keep a browser's pages from reaching a server on the
 * loopback under a name of theirs (DNS rebinding): a page has no token, but it must not even learn that we are here.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { isIP } from 'node:net'
import { Failure } from '@stillpoint/core/kernel'
import { isAuthorized } from './token.ts'

export interface RequestGuard {
  /** What is wrong with it, or undefined. */
  readonly checkOrigin: (headers: IncomingHttpHeaders) => Failure | undefined
  readonly checkToken: (headers: IncomingHttpHeaders) => Failure | undefined
}

/** @param listenHost as configured: a name that the server may be called by */
export function createRequestGuard(listenHost: string, token: string): RequestGuard {
  return {
    checkOrigin(headers) {
      const host = headers.host ?? ''
      if (!isExpectedHost(host, listenHost)) {
        return new Failure({
          code: 'host_refused',
          message: `This server is not ${JSON.stringify(host.slice(0, 200))}`,
          hint: 'Use the address in server.json, an IP address, "localhost", or the name in "server.host".',
        })
      }
      const { origin } = headers
      const site = headers['sec-fetch-site']
      const isForeign = origin !== undefined && origin.toLowerCase() !== `http://${host.toLowerCase()}`
      if (isForeign || site === 'cross-site' || site === 'same-site') {
        return new Failure({
          code: 'origin_refused',
          message: `A page of ${JSON.stringify((origin ?? 'another site').slice(0, 200))} may not use this server`,
        })
      }
      return undefined
    },
    checkToken(headers) {
      if (isAuthorized(headers.authorization, token)) return undefined
      const given = headers.authorization === undefined ? 'carries no token' : 'carries a wrong token'
      return new Failure({
        code: 'unauthenticated',
        message: `The request ${given}`,
        hint: 'Send "authorization: Bearer …" with the token in the file "token" of the state directory.',
      })
    },
  }
}

/**
 * An IP address cannot be rebound: a page that is called by one comes from there. Any name could be, so only those are
 * good that are ours.
 */
function isExpectedHost(header: string, listenHost: string): boolean {
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{1,5})?$/i.exec(header)
  if (match === null) return false
  const [, address, name = ''] = match
  if (address !== undefined) return isIP(address) === 6
  return isIP(name) === 4 || name.toLowerCase() === 'localhost' || name.toLowerCase() === listenHost.toLowerCase()
}
