/** The SDK in front of a `node:http` request listener. */
import { IncomingMessage, type ServerResponse } from 'node:http'
import { runAs } from '../gate/work-context.ts'
import type { Settings } from '../options.ts'
import type { HttpServerSide } from './http-server.ts'

export type HttpListener = (request: IncomingMessage, response: ServerResponse) => unknown

export interface HttpHandlerOptions {
  /** Delivering a request again is exact: its effects and its message id are recorded together. */
  readonly transactional?: boolean
}

/**
 * Wraps a listener for `http.createServer`. Its work has ended when its promise has settled and the reply has ended.
 * What it throws is reported through `onError` and answered with status 500.
 */
export function wrapListener(options: {
  readonly settings: Settings
  readonly server: HttpServerSide
  readonly listener: HttpListener
  readonly transactional: boolean
}): (request: IncomingMessage, response: ServerResponse) => void {
  const { settings, server, listener, transactional } = options

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const admission = await server.admit(request, response, { transactional })
    if (admission.kind === 'answered') return
    const { work, body, reply } = admission
    try {
      await runAs(work, async () => listener(body === null ? request : withBody(request, body), response))
    } catch (error) {
      settings.error(error, `${request.method} ${pathOf(request)}`)
      if (!response.headersSent) response.statusCode = 500
      runAs(work, () => response.end())
    } finally {
      reply.handlerReturned()
    }
  }

  return (request, response) => {
    serve(request, response).catch((error) => {
      settings.error(error, `${request.method} ${pathOf(request)}`)
      response.destroy()
    })
  }
}

/** Without the query, which may hold what no log should. */
function pathOf(request: IncomingMessage): string {
  return (request.url ?? '/').split('?', 1)[0] ?? '/'
}

/** The request again, with the body that has been read already. */
function withBody(request: IncomingMessage, body: Buffer): IncomingMessage {
  const copy = new IncomingMessage(request.socket)
  const { method, url, httpVersion, httpVersionMajor, httpVersionMinor, headers, rawHeaders } = request
  Object.assign(copy, {
    method,
    url,
    httpVersion,
    httpVersionMajor,
    httpVersionMinor,
    headers,
    rawHeaders,
    complete: true,
  })
  if (body.length > 0) copy.push(body)
  copy.push(null)
  return copy
}
