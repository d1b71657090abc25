/** Free TCP ports on the loopback. */
import { createServer } from 'node:net'
import { isFailure } from '@stillpoint/core/kernel'

const attempts = 5

/** A port that was free a moment ago. Somebody else may take it before it is used: see `onFreePorts`. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  const address = server.address()
  await new Promise<void>((resolve, reject) => server.close((error) => (error ? reject(error) : resolve())))
  if (address === null || typeof address === 'string') throw new Error('a TCP server has no port')
  return address.port
}

/**
 * What `start` starts, which asks for its ports itself: where somebody else took one between that and the start, it is
 * called again.
 */
export async function onFreePorts<Server>(start: () => Promise<Server>): Promise<Server> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await start()
    } catch (error) {
      const isTaken =
        isFailure(error, 'server_did_not_start') && /address already in use|unable to bind/i.test(error.message)
      if (!isTaken || attempt === attempts) throw error
    }
  }
}
