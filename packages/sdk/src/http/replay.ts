/**
 * Hands a recorded HTTP request over again: a real request over a connection in memory, into the very server that
 * answered the first time, so that every framework works. The answer goes nowhere: whoever waited for it is of the time
 * before the restore.
 */
import http from 'node:http'
import { duplexPair } from 'node:stream'
import type { RecordedMessage } from '@stillpoint/core'
import { type ChannelId, Failure } from '@stillpoint/core/kernel'
import type { Settings } from '../options.ts'
import type { HttpServerSide } from './http-server.ts'

/** Resolves when the handler has ended. */
export function replayRequest(options: {
  readonly settings: Settings
  readonly server: HttpServerSide
  readonly target: Pick<http.Server, 'emit'>
  readonly transactional: boolean
  readonly channel: ChannelId
  readonly record: RecordedMessage
}): Promise<void> {
  const { settings, server, target, transactional, channel, record } = options
  const { meta } = record
  if (meta['void'] !== undefined) return Promise.resolve() // Given up by its caller: nothing was to be done.
  const body = Buffer.from(record.payload, record.encoding)
  const headers = headersOf(meta['headers'], channel)
  const [near, far] = duplexPair()
  const what = `replay of ${meta['method']} on ${channel}`
  return new Promise((resolve) => {
    const over = (): void => {
      near.destroy()
      far.destroy()
      resolve()
    }
    server.expectReplay(far, { transactional, ended: over })
    target.emit('connection', far)
    const request = http.request({
      createConnection: () => near,
      method: meta['method'] ?? 'GET',
      path: meta['path'] ?? '/',
      headers: { ...headers, host: 'stillpoint-replay', connection: 'close', 'content-length': String(body.length) },
    })
    request.on('response', (response) => {
      if ((response.statusCode ?? 0) >= 400) {
        const message = `${what} was answered with status ${response.statusCode}; it counts as handled`
        settings.error(new Failure({ code: 'replay_refused', message }), 'restore')
      }
      response.resume()
    })
    request.on('error', (error) => {
      // The handler's end has closed the connection under the answer, which nobody needs.
      if (!near.destroyed) settings.error(error, what)
    })
    request.end(body)
  })
}

function headersOf(json: string | undefined, channel: ChannelId): Record<string, string | string[]> {
  const found: Record<string, string | string[]> = {}
  const value: unknown = parsed(json ?? '{}', channel)
  if (typeof value !== 'object' || value === null) throw invalidHeaders(channel)
  for (const [name, content] of Object.entries(value)) {
    if (typeof content === 'string') found[name] = content
    else if (Array.isArray(content)) found[name] = content.map(String)
    else throw invalidHeaders(channel)
  }
  return found
}

function parsed(json: string, channel: ChannelId): unknown {
  try {
    return JSON.parse(json)
  } catch (cause) {
    throw invalidHeaders(channel, cause)
  }
}

function invalidHeaders(channel: ChannelId, cause?: unknown): Failure {
  return new Failure({
    code: 'frame_invalid',
    message: `a recorded request of ${channel} has unreadable headers`,
    cause,
  })
}
