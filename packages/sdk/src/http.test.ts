/** HTTP between processes, and from outsiders, over real sockets: during cuts, when calls fail, and at a restore. */
import http from 'node:http'
import { setTimeout as pause } from 'node:timers/promises'
import type { Failure } from '@stillpoint/core/kernel'
import fastify from 'fastify'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { HttpListener } from './http/node-handler.ts'
import { voidHeader } from './http/stamp-headers.ts'
import { join } from './join.ts'
import type { JoinOptions } from './options.ts'
import type { Participant } from './participant.ts'
import { breakableProxy } from './testing/breakable-proxy.ts'
import { recordedOf, type ScriptedCoordinator, scriptedCoordinator, testToken } from './testing/scripted-coordinator.ts'

const open: { close(): unknown }[] = []
let coordinator: ScriptedCoordinator
beforeEach(async () => {
  coordinator = await scriptedCoordinator()
  open.push(coordinator)
})
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close()
})

interface Service extends Participant {
  readonly errors: Failure[]
  /** The numbers of failed calls to it that it knows not to wait for. */
  readonly voided: ReadonlySet<string>
  readonly base: string
  readonly port: number
}

async function service(
  name: string,
  listener: (self: Participant) => HttpListener,
  more: Partial<JoinOptions> = {},
): Promise<Service> {
  const errors: Failure[] = []
  const onError = (error: unknown): void => void errors.push(error as Failure)
  const participant = join({ name, server: coordinator.url, token: testToken, onError, ...more })
  const server = http.createServer(participant.httpHandler(listener(participant)))
  const voided = new Set<string>()
  server.on('request', ({ headers }: http.IncomingMessage, response: http.ServerResponse) =>
    response.once('finish', () => {
      if (headers[voidHeader] !== undefined && response.statusCode === 204)
        voided.add(String(headers['stillpoint-seq']))
    }),
  )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  open.push({
    close: async () => {
      await participant.close({ flushMs: 1 })
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  })
  return Object.assign(participant, { errors, voided, port, base: `http://127.0.0.1:${port}` })
}

async function bodyOf(request: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks).toString()
}

const post = (body: string): RequestInit => ({ method: 'POST', body, headers: { 'content-type': 'text/plain' } })

describe('calls between processes', () => {
  test('are conserved by cuts under load, in both directions, with nested calls (C1, C2)', async () => {
    const balances = new Map([
      ['a', 500],
      ['b', 500],
    ])
    const change = (name: string, by: number): void => void balances.set(name, (balances.get(name) ?? 0) + by)
    const bases = new Map<string, string>()
    const make = (name: string, other: string): Promise<Service> =>
      service(
        name,
        (self) => async (request, response) => {
          const body = await bodyOf(request)
          if (request.url === '/ask') {
            // A handler that calls back while its caller waits for it: gates must not wait for each other.
            const answer = await self.fetch(other, `${bases.get(other)}/balance`)
            response.end(await answer.text())
            return
          }
          if (request.url === '/move') change(name, Number(body))
          response.end(String(balances.get(name)))
        },
        { state: { capture: () => ({ balance: balances.get(name) ?? 0 }), restore: () => {} } },
      )
    const [a, b] = await Promise.all([make('a', 'b'), make('b', 'a')])
    bases.set('a', a.base).set('b', b.base)
    await Promise.all([a.joined, b.joined])
    let isStopped = false
    const errors: unknown[] = []
    const moves: Promise<number>[] = []
    const work = async (from: Service, to: Service): Promise<void> => {
      while (!isStopped) {
        await from
          .run(async () => {
            change(from.name, -1)
            // Not awaited here: it is in flight when the work ends, and cuts may fall in between.
            moves.push(from.fetch(to.name, `${to.base}/move`, post('1')).then(({ status }) => status))
            if (moves.length % 3 !== 0) return
            await (await from.fetch(to.name, `${to.base}/ask`)).text()
          })
          .catch((error) => errors.push(error))
        await moves.at(-8)
      }
    }
    const workers = [work(a, b), work(a, b), work(b, a), work(b, a)]
    let crossed = 0
    for (let round = 0; round < 8; round += 1) {
      // In every other round b alone is ordered, and a enters by what b sends: until then a's calls cross the cut.
      const chosen = round % 2 === 1 ? { gated: true } : { markOnly: ['b'] }
      const result = await coordinator.cut(['a', 'b'], chosen)
      const moved = (name: string, from: string): number =>
        recordedOf(result, name, `${from}→${name}#http`).filter(({ meta }) => meta['path'] === '/move').length
      const recorded = moved('a', 'b') + moved('b', 'a')
      crossed += recorded
      const marked = ['a', 'b'].map(
        (name) => JSON.parse(String(result.uploads.get(name)?.get('state/state.json'))).balance,
      )
      expect(marked[0] + marked[1] + recorded, `cut ${round}`).toBe(1_000)
      for (const drained of result.drained.values()) for (const { missing } of drained) expect(missing).toEqual([])
    }
    isStopped = true
    await Promise.all(workers)
    expect(new Set(await Promise.all(moves))).toEqual(new Set([200]))
    expect(errors).toEqual([])
    expect([...a.errors, ...b.errors]).toEqual([])
    expect((balances.get('a') ?? 0) + (balances.get('b') ?? 0)).toBe(1_000)
    expect(crossed, 'the load must be heavy enough to cross the cuts').toBeGreaterThan(0)
  })

  test('a request whose handler is cut off is recorded with its body, and handed over again by a restore', async () => {
    const go = Promise.withResolvers<void>()
    const seen: string[] = []
    const b = await service('b', () => async (request, response) => {
      seen.push(`${request.method} ${request.url} ${request.headers['x-tenant']} ${await bodyOf(request)}`)
      if (seen.length === 1) await go.promise
      response.end('done')
    })
    const a = await service('a', () => (_request, response) => response.end())
    await Promise.all([a.joined, b.joined])
    const init = { ...post('three'), headers: { 'x-tenant': 'acme' } }
    const call = a.run(async () => (await a.fetch('b', `${b.base}/orders?n=3`, init)).text())
    await coordinator.until(() => seen.length === 1, 'the request')
    const result = await coordinator.cut(['a', 'b'], { handlerMs: 30 })
    go.resolve()
    expect(await call).toBe('done')
    const handlers = result.marks.get('b')?.openHandlers
    expect(handlers).toMatchObject([
      { startedBy: 'message', channel: 'a→b#http', transactional: false, cutOffBy: 'deadline' },
    ])
    expect(recordedOf(result, 'b', 'a→b#http')).toHaveLength(1)

    coordinator.stage('r1', result)
    coordinator.restoreAll(['a', 'b'], { restore: 'r1', snapshot: 's1', generation: 2, epoch: coordinator.epoch + 1 })
    await coordinator.until(
      () => coordinator.frames.filter(({ frame }) => frame.type === 'restored').length === 2,
      'restored',
    )
    expect(seen).toEqual(['POST /orders?n=3 acme three', 'POST /orders?n=3 acme three'])
    // And it serves in the new generation.
    expect(await (await a.fetch('b', `${b.base}/again`, init)).text()).toBe('done')
  })

  test('one that fails on the way is uncertain, is given up, and leaves no hole in later cuts', async () => {
    const seen: string[] = []
    const cut = Promise.withResolvers<void>()
    const b = await service('b', () => async (request, response) => {
      seen.push(await bodyOf(request))
      if (seen.length === 1) await cut.promise
      response.end('ok')
    })
    const a = await service('a', () => (_request, response) => response.end())
    const proxy = await breakableProxy(b.port)
    open.push(proxy)
    await Promise.all([a.joined, b.joined])
    const through = `http://127.0.0.1:${proxy.port}/`
    const cutOff = a.fetch('b', through, post('1')) // Arrives; its reply does not.
    const failed = expect(cutOff).rejects.toThrow()
    await coordinator.until(() => seen.length === 1, 'the request')
    proxy.isDown = true
    proxy.cut()
    await failed
    cut.resolve()
    await expect(a.fetch('b', through, post('2'))).rejects.toThrow() // Surely never arrives.
    proxy.isDown = false
    await (await a.fetch('b', through, post('3'))).text()
    await coordinator.until(() => b.voided.size === 2, 'both to be given up')
    const result = await coordinator.cut(['a', 'b'])
    expect(result.marks.get('a')?.sent).toMatchObject([
      { channel: 'a→b#http', sent: 3, uncertain: [1, 2], volatile: true },
    ])
    for (const drained of result.drained.values()) {
      for (const { missing, endedBy } of drained)
        expect({ missing, endedBy }).toEqual({ missing: [], endedBy: 'counts' })
    }
    expect(seen).toEqual(['1', '3'])
  })

  test('are refused when they belong to a state that was replaced (C9)', async () => {
    const seen: string[] = []
    const b = await service('b', () => async (request, response) => {
      seen.push(await bodyOf(request))
      response.end()
    })
    const a = await service('a', () => (_request, response) => response.end())
    await Promise.all([a.joined, b.joined])
    coordinator.restoreAll(['b'], { restore: 'r1', snapshot: 's1', generation: 2, epoch: 9 })
    await coordinator.until(() => coordinator.frames.some(({ frame }) => frame.type === 'restored'), 'b restored')
    await expect(a.fetch('b', b.base, post('old'))).rejects.toMatchObject({ code: 'generation_older' })
    await expect(b.fetch('a', a.base, post('new'))).rejects.toMatchObject({ code: 'peer_not_restored' })
    expect(seen).toEqual([])
  })

  test('a forged stamp is refused, and makes nobody enter an epoch', async () => {
    const seen: string[] = []
    const b = await service('b', () => async (request, response) => {
      seen.push(await bodyOf(request))
      response.end()
    })
    await b.joined
    const headers = {
      'stillpoint-generation': '1',
      'stillpoint-epoch': '1000000',
      'stillpoint-channel': encodeURIComponent('a→b#http'),
      'stillpoint-session': 's',
      'stillpoint-seq': '1',
      'stillpoint-message': 'm',
      'stillpoint-incarnation': 'i',
      'stillpoint-signature': '0'.repeat(64),
    }
    const response = await fetch(b.base, { method: 'POST', body: 'x', headers })
    expect(response.status).toBe(401)
    expect(response.headers.get('stillpoint-refused')).toBe('signature')
    expect(b.status().epoch).toBe(0)
    expect(seen).toEqual([])
  })

  test('a handler that throws answers 500, is reported, and has ended', async () => {
    const b = await service('b', () => () => Promise.reject(new Error('broken')))
    const a = await service('a', () => (_request, response) => response.end())
    await Promise.all([a.joined, b.joined])
    expect((await a.fetch('b', b.base)).status).toBe(500)
    expect(b.errors.map(({ message }) => message)).toEqual(['broken'])
    const result = await coordinator.cut(['a', 'b'])
    expect(result.marks.get('b')?.openHandlers).toEqual([])
  })

  test('are served before Stillpoint is there, as outsiders', async () => {
    await coordinator.close()
    const b = await service('b', () => (_request, response) => response.end('here'))
    const a = await service('a', () => (_request, response) => response.end())
    expect(await (await a.fetch('b', b.base)).text()).toBe('here')
    expect(b.status().phase).toBe('joining')
  })
})

describe('outsiders', () => {
  test('wait from quiesce until the epoch is entered, and are then served', async () => {
    const served: number[] = []
    const b = await service('b', () => (_request, response) => {
      served.push(b.status().epoch)
      response.end('ok')
    })
    await b.joined
    let held: Promise<string> = Promise.resolve('')
    const result = await coordinator.cut(['b'], {
      before: async (step) => {
        if (step !== 'mark') return
        held = fetch(b.base).then((response) => response.text())
        await pause(80)
        expect(served).toEqual([])
      },
    })
    expect(await held).toBe('ok')
    expect(served).toEqual([result.ref.epoch])
    expect(result.marks.get('b')?.uncolouredHandled).toBe(0)
  })

  test('are released by the lease when the coordinator falls silent (C5), and at once when it is lost', async () => {
    const b = await service('b', () => (_request, response) => response.end('ok'))
    await b.joined
    const incarnation = b.incarnation
    const role = { kind: 'process', incarnation, gated: true, owns: [], handlerMs: 50, leaseMs: 150 } as const
    const holdIt = async (leaseMs: number): Promise<void> => {
      const ref = coordinator.newRef()
      coordinator.order('b', { type: 'prepare', ref, role })
      coordinator.order('b', { type: 'quiesce', ref, stage: 'gate', leaseMs })
      await coordinator.fact('b', 'held', ref)
    }
    const orderedMs = performance.now()
    await holdIt(150)
    expect(await (await fetch(b.base)).text()).toBe('ok')
    // Not before; a timer of Node may be a millisecond early.
    expect(performance.now() - orderedMs).toBeGreaterThanOrEqual(149)

    // Longer than this test may take.
    await holdIt(600_000)
    const again = fetch(b.base).then((response) => response.text())
    await pause(50)
    await coordinator.close()
    expect(await again).toBe('ok')
  })
})

describe('Fastify', () => {
  test('handlers are items: calls are recorded, outsiders held, sendings belong to them, replays reach the route', async () => {
    const seen: unknown[] = []
    const go = Promise.withResolvers<void>()
    const errors: unknown[] = []
    const participant = join({
      name: 'f',
      server: coordinator.url,
      token: testToken,
      onError: (error) => errors.push(error),
    })
    const app = fastify()
    app.register(participant.fastify())
    const a = await service('a', () => (_request, response) => response.end('from a'))
    app.post('/orders', async (request) => {
      seen.push(request.body)
      const inner = await participant.fetch('a', a.base)
      if (seen.length === 1) await go.promise
      return { got: request.body, inner: await inner.text() }
    })
    await app.listen({ port: 0, host: '127.0.0.1' })
    open.push({
      close: async () => {
        await participant.close({ flushMs: 1 })
        app.server.closeAllConnections()
        await app.close()
      },
    })
    const address = app.server.address()
    const base = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
    await Promise.all([participant.joined, a.joined])
    const init = { method: 'POST', body: JSON.stringify({ n: 7 }), headers: { 'content-type': 'application/json' } }
    const call = a.fetch('f', `${base}/orders`, init)
    await coordinator.until(() => seen.length === 1, 'the request')
    const held: Promise<Response>[] = []
    const result = await coordinator.cut(['a', 'f'], {
      handlerMs: 60,
      before: (step) => {
        if (step === 'mark') held.push(fetch(`${base}/orders`, init))
      },
    })
    go.resolve()
    expect(await (await call).json()).toEqual({ got: { n: 7 }, inner: 'from a' })
    expect((await Promise.all(held)).map(({ status }) => status)).toEqual([200])
    expect(recordedOf(result, 'f', 'a→f#http')).toMatchObject([
      { kind: 'request', meta: { method: 'POST', path: '/orders' } },
    ])
    expect(result.marks.get('f')?.openHandlers).toMatchObject([{ startedBy: 'message', cutOffBy: 'deadline' }])

    coordinator.stage('r1', result)
    coordinator.restoreAll(['a', 'f'], { restore: 'r1', snapshot: 's1', generation: 2, epoch: coordinator.epoch + 1 })
    await coordinator.until(
      () => coordinator.frames.filter(({ frame }) => frame.type === 'restored').length === 2,
      'restored',
    )
    expect(seen).toEqual([{ n: 7 }, { n: 7 }, { n: 7 }])
    expect(errors).toEqual([])
  })
})
