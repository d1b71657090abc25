/** A TCP proxy whose connections a test can cut, in the middle of a frame if need be. */
import net from 'node:net'

export interface BreakableProxy {
  readonly port: number
  /** Cuts all connections now. */
  cut(): void
  /** While true, new connections are cut at once. */
  isDown: boolean
  /** Where new connections go. */
  target: number
  close(): Promise<void>
}

export async function breakableProxy(target: number): Promise<BreakableProxy> {
  const sockets = new Set<net.Socket>()
  const server = net.createServer((near) => {
    if (self.isDown) {
      near.destroy()
      return
    }
    const far = net.connect(self.target, '127.0.0.1')
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one)
      // A cut connection fails on both sides; that is what the proxy is for.
      one.on('error', () => other.destroy())
      one.on('close', () => {
        sockets.delete(one)
        other.destroy()
      })
      one.pipe(other)
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('no address')
  const self: BreakableProxy = {
    port: address.port,
    isDown: false,
    target,
    cut() {
      for (const socket of sockets) socket.destroy()
    },
    close() {
      self.cut()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
  return self
}
