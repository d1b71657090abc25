/**
 * A network that breaks: passes on bytes to a port of this machine, and cuts each connection after a number of bytes that
 * a seed decides, counted over both directions. Of the piece that is cut, what comes before still arrives: half a
 * request, or half an answer.
 */
import { connect, createServer, type Socket } from 'node:net'
import type { Random } from '@stillpoint/core/kernel'

export interface BreakingProxyOptions {
  /** Where the bytes go to, on this machine. */
  readonly port: number
  readonly random: Random
  /** No connection carries more. */
  readonly bytesMax: number
}

export interface BreakingProxy {
  /** `http://host:port`, without a slash at its end. */
  readonly url: string
  /** Connections cut so far. */
  cuts(): number
  /** Idempotent. */
  stop(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

const host = '127.0.0.1'

export async function startBreakingProxy({ port, random, bytesMax }: BreakingProxyOptions): Promise<BreakingProxy> {
  const open = new Set<Socket>()
  let cuts = 0
  const server = createServer((client) => {
    const upstream = connect(port, host)
    let left = random.uint32() % bytesMax
    const pass = (data: Buffer, to: Socket) => {
      left -= data.length
      if (left > 0) return void to.write(data)
      if (!client.destroyed) cuts += 1
      to.write(data.subarray(0, Math.max(0, data.length + left)), () => {
        client.destroy()
        upstream.destroy()
      })
    }
    client.on('data', (data) => pass(data, upstream))
    upstream.on('data', (data) => pass(data, client))
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      open.add(one)
      one.on('error', () => {}) // followed by close
      one.on('close', () => {
        open.delete(one)
        other.destroy()
      })
    }
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, host, resolve)
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')
  const stop = async () => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve())) // also where it is closed already
    for (const socket of open) socket.destroy()
    await closed
  }
  return { url: `http://${host}:${address.port}`, cuts: () => cuts, stop, [Symbol.asyncDispose]: stop }
}
