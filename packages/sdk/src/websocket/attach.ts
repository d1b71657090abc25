/** The way in for peers: WebSocket upgrades on a path of an HTTP server, with the token checked before anything else. */
import type { Server as HttpServer, IncomingMessage } from 'node:http'
import type { Server as HttpsServer } from 'node:https'
import type { Duplex } from 'node:stream'
import { WebSocketServer } from 'ws'
import type { Settings } from '../options.ts'
import { bearerOf, sameToken } from '../token.ts'
import type { InboundLinks } from './inbound-links.ts'
import { headerBytesMax } from './peer-frames.ts'

export const defaultPath = '/stillpoint/channels'

/** Answers a function that takes the listener off again. The server stays its owner's. */
export function attachLinks(options: {
  readonly settings: Settings
  readonly links: InboundLinks
  readonly server: HttpServer | HttpsServer
  readonly path: string
}): () => void {
  const { settings, links, server, path } = options
  const maxPayload = settings.messageBytesMax + headerBytesMax + 4
  const upgrader = new WebSocketServer({ noServer: true, maxPayload, perMessageDeflate: false })

  async function upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const given = bearerOf(request.headers.authorization)
    if (given === null || !sameToken(given, await settings.readToken())) return refuse(socket, '401 Unauthorized')
    upgrader.handleUpgrade(request, socket, head, (link) => links.accept(link))
  }

  const onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    if (pathOf(request) !== path) {
      // Another listener may know this path; where there is none, nobody would ever answer.
      if (server.listenerCount('upgrade') === 1) refuse(socket, '404 Not Found')
      return
    }
    const onError = (error: Error): void => settings.note(`a connection of a peer broke off: ${error.message}`)
    socket.on('error', onError)
    upgrade(request, socket, head).catch((error) => {
      settings.error(error, 'a connection of a peer')
      refuse(socket, '503 Service Unavailable')
    })
  }
  server.on('upgrade', onUpgrade)
  return () => {
    server.off('upgrade', onUpgrade)
    upgrader.close()
  }
}

function pathOf(request: IncomingMessage): string {
  const url = request.url ?? '/'
  const end = url.indexOf('?')
  return end === -1 ? url : url.slice(0, end)
}

function refuse(socket: Duplex, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`)
}
