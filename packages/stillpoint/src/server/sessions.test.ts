import type { CutRef, Fact, Order } from '@stillpoint/core'
import { type ParticipantName, participantName } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { hello, joinedProcess, openProcess, startTestServer, switchGeneration, until } from './workbench.ts'

const ref: CutRef = { cut: 'cut-1' as CutRef['cut'], epoch: 1, generation: 0, fencing: 1 }
const mark: Order = { type: 'mark', ref }
const held = (hold: number): Fact => ({ type: 'held', ref, stage: 'gate', hold })

async function refusalOf(process: Awaited<ReturnType<typeof openProcess>>) {
  const { failure } = await process.next('refused')
  const { code } = await process.closed()
  return { ...failure, closeCode: code }
}

function upgradeStatus(url: string, headers: Record<string, string>, path = '/v1/session'): Promise<number | 'open'> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`${url.replace('http', 'ws')}${path}`, { headers })
    socket.on('open', () => {
      socket.terminate()
      resolve('open')
    })
    socket.on('unexpected-response', (request, response) => {
      resolve(response.statusCode ?? 0)
      request.destroy()
    })
    socket.on('error', reject)
  })
}

describe('who may open a session', () => {
  test('only who has the token, under a name of this server, and no page of another site', async () => {
    await using server = await startTestServer()
    const authorization = `Bearer ${server.token}`
    expect(await upgradeStatus(server.url, {})).toBe(401)
    expect(await upgradeStatus(server.url, { authorization: `Bearer ${'0'.repeat(64)}` })).toBe(401)
    expect(await upgradeStatus(server.url, { authorization: `Bearer ${server.token.slice(1)}` })).toBe(401)
    expect(await upgradeStatus(server.url, { authorization, host: 'evil.example' })).toBe(403)
    expect(await upgradeStatus(server.url, { authorization, origin: 'http://evil.example' })).toBe(403)
    expect(await upgradeStatus(server.url, { authorization }, '/v1/other')).toBe(404)
    expect(await upgradeStatus(server.url, { authorization })).toBe('open')
    expect(server.processes.connected()).toEqual([])
  })

  test('only processes that the configuration declares, and the refusal says how to declare one', async () => {
    await using server = await startTestServer()
    const process = await openProcess(server)
    process.send(hello('intruder'))
    const refused = await refusalOf(process)
    expect(refused).toMatchObject({ code: 'participant_undeclared', retry: 'never', closeCode: 1008 })
    expect(refused.message).toContain('orders, payments')
    expect(refused.hint).toContain(server.config.path)
  })

  test.each([
    ['no JSON', '{', 'frame_invalid'],
    ['another version', JSON.stringify({ ...hello('orders'), version: 2 }), 'version_unsupported'],
    ['a fact', JSON.stringify({ type: 'fact', fact: held(1) }), 'hello_missing'],
    ['a bad name', JSON.stringify(hello('../orders')), 'frame_invalid'],
    ['an endless name', JSON.stringify(hello('o'.repeat(10_000))), 'frame_invalid'],
    ['a hello of 20 kB', JSON.stringify({ ...hello('orders'), padding: 'x'.repeat(20_000) }), 'hello_missing'],
  ])('a session that begins with %s is refused', async (_what, text, code) => {
    await using server = await startTestServer()
    const process = await openProcess(server)
    process.socket.send(text)
    expect(await refusalOf(process)).toMatchObject({ code })
    expect(server.processes.connected()).toEqual([])
  })

  test('a connection that never says hello is closed', async () => {
    await using server = await startTestServer({ limits: { helloMs: 50 } })
    const process = await openProcess(server)
    expect(await refusalOf(process)).toMatchObject({ code: 'hello_missing', retry: 'later' })
  })

  test('no more connections than the limit', async () => {
    await using server = await startTestServer({ limits: { connectionsMax: 1 } })
    await joinedProcess(server, 'orders')
    const second = await openProcess(server)
    expect(await refusalOf(second)).toMatchObject({ code: 'connections_exhausted' })
  })
})

describe('the welcome', () => {
  test('carries generation and epoch of the catalog, and is what makes a process connected', async () => {
    await using server = await startTestServer()
    await server.catalog.raise('shop', { generation: 3, epoch: 17 })
    const { welcome } = await joinedProcess(server, 'orders')
    expect(welcome).toMatchObject({ system: 'shop', generation: 3, epoch: 17, restore: null })
    expect(welcome.agentUrl.startsWith(`${server.url}/s/`)).toBe(true)
    expect(server.processes.connected()).toEqual([{ name: 'orders', incarnation: 'life-1' }])
  })

  test('a process that remembers more than the catalog raises it (K4)', async () => {
    await using server = await startTestServer()
    const process = await openProcess(server)
    process.send(hello('orders', 'life-1', { generation: 2, epoch: 9 }))
    expect(await process.next('welcome')).toMatchObject({ generation: 2, epoch: 9 })
    expect(await server.catalog.counters('shop')).toMatchObject({ generation: 2, epoch: 9 })
  })

  test('an epoch out of nowhere is refused, and raises nothing', async () => {
    await using server = await startTestServer()
    const process = await openProcess(server)
    process.send(hello('orders', 'life-1', { epoch: Number.MAX_SAFE_INTEGER }))
    expect(await refusalOf(process)).toMatchObject({ code: 'position_implausible' })
    expect(await server.catalog.counters('shop')).toMatchObject({ epoch: 0 })
    await until(() => server.events.length > 0, 'the lost session is told')
    expect(server.events).toEqual([{ type: 'lost', name: 'orders', incarnation: 'life-1' }])
  })

  test('a pending restore is in it, over reconnections, until the process has been through it', async () => {
    await using server = await startTestServer()
    const offer = await switchGeneration(server.catalog, ['orders'])
    const first = await joinedProcess(server, 'orders')
    expect(first.welcome).toMatchObject({ generation: offer.generation, restore: offer })
    first.socket.terminate()
    await until(() => server.processes.connected().length === 0, 'the first is gone')
    const second = await joinedProcess(server, 'orders', 'life-2')
    expect(second.welcome.restore).toEqual(offer)
    second.send({ type: 'restored', restore: offer.restore })
    await until(() => server.events.some(({ type }) => type === 'restored'), 'it is restored')
    expect(await server.catalog.pendingRestores('shop')).toEqual([])
    second.socket.terminate()
    await until(() => server.processes.connected().length === 0, 'the second is gone')
    expect((await joinedProcess(server, 'orders', 'life-3')).welcome.restore).toBeNull()
  })

  test('C9: a process with the state of an older generation, and no restore for it, is refused', async () => {
    await using server = await startTestServer()
    await server.catalog.raise('shop', { generation: 4 })
    const process = await openProcess(server)
    process.send(hello('orders', 'life-1', { generation: 3 }))
    expect(await refusalOf(process)).toMatchObject({ code: 'generation_stale', retry: 'never' })
  })

  test('S3: what is sent before the welcome follows it, and an offer that it carries is not sent twice', async () => {
    await using server = await startTestServer()
    const offer = await switchGeneration(server.catalog, ['orders'])
    const process = await openProcess(server)
    let answered: boolean[] = []
    const pendingRestores = server.catalog.pendingRestores.bind(server.catalog)
    server.catalog.pendingRestores = async (system) => {
      const [orders] = server.processes.connected()
      if (orders === undefined) throw new Error('the session is in the directory before its welcome is made')
      answered = [server.processes.send(orders, mark), server.processes.offerRestore(orders, offer)]
      return await pendingRestores(system)
    }
    process.send(hello('orders'))
    expect(await process.next('welcome')).toMatchObject({ restore: offer })
    expect(await process.next('order')).toEqual({ type: 'order', order: mark })
    expect(answered).toEqual([true, true])
    process.send({ type: 'restored', restore: offer.restore })
    await until(() => server.events.some(({ type }) => type === 'restored'), 'it is restored')
    expect(process.frames.map(({ type }) => type)).toEqual(['welcome', 'order'])
  })
})

describe('S1: one session per name', () => {
  test('a second incarnation is refused while the first answers, and the first goes on', async () => {
    await using server = await startTestServer()
    const first = await joinedProcess(server, 'orders', 'life-1')
    const second = await openProcess(server)
    second.send(hello('orders', 'life-2'))
    expect(await refusalOf(second)).toMatchObject({ code: 'participant_connected', retry: 'later', closeCode: 1013 })
    expect(server.processes.connected()).toEqual([{ name: 'orders', incarnation: 'life-1' }])
    const orders = { name: participantName('orders'), incarnation: hello('orders').incarnation }
    expect(server.processes.send(orders, mark)).toBe(true)
    await first.next('order')
  })

  test('a first one that does not answer gives way, and is told to be lost before the second is there', async () => {
    await using server = await startTestServer({ limits: { probeMs: 100, closeMs: 100 } })
    const first = await openProcess(server, { autoPong: false })
    first.send(hello('orders', 'life-1'))
    await first.next('welcome')
    const second = await joinedProcess(server, 'orders', 'life-2')
    expect(second.welcome.type).toBe('welcome')
    expect(server.processes.connected()).toEqual([{ name: 'orders', incarnation: 'life-2' }])
    expect(server.events).toEqual([{ type: 'lost', name: 'orders', incarnation: 'life-1' }])
    const stale = { name: participantName('orders'), incarnation: hello('orders', 'life-1').incarnation }
    expect(server.processes.send(stale, mark)).toBe(false)
  })

  test('the same incarnation again takes the place of its own old connection, at once', async () => {
    await using server = await startTestServer({ limits: { probeMs: 60_000 } })
    const first = await joinedProcess(server, 'orders', 'life-1')
    await joinedProcess(server, 'orders', 'life-1')
    expect((await first.closed()).code).toBe(1008)
    expect(server.events).toEqual([{ type: 'lost', name: 'orders', incarnation: 'life-1' }])
    expect(server.processes.connected()).toHaveLength(1)
  })

  test('of many that want the name of a silent one, one gets it', async () => {
    await using server = await startTestServer({ limits: { probeMs: 100, closeMs: 100 } })
    const first = await openProcess(server, { autoPong: false })
    first.send(hello('orders', 'life-1'))
    await first.next('welcome')
    const many = await Promise.all(Array.from({ length: 5 }, () => openProcess(server)))
    for (const [index, process] of many.entries()) process.send(hello('orders', `life-${index + 2}`))
    await until(() => many.every(({ frames }) => frames.length > 0), 'all are answered')
    const answers = many.map(({ frames }) => frames[0]?.type)
    expect(answers.filter((type) => type === 'welcome')).toHaveLength(1)
    expect(server.processes.connected()).toHaveLength(1)
  })
})

describe('orders and facts', () => {
  test('S2: pass in order, both ways', async () => {
    await using server = await startTestServer()
    const process = await joinedProcess(server, 'orders')
    const [orders] = server.processes.connected()
    if (orders === undefined) throw new Error('orders is connected')
    for (let hold = 1; hold <= 500; hold++) process.send({ type: 'fact', fact: held(hold) })
    for (let epoch = 1; epoch <= 500; epoch++) {
      server.processes.send(orders, { type: 'mark', ref: { ...ref, epoch } })
    }
    await until(() => server.events.length === 500, 'all facts are there')
    expect(
      server.events.map((event) => event.type === 'fact' && event.fact.type === 'held' && event.fact.hold),
    ).toEqual(Array.from({ length: 500 }, (_, index) => index + 1))
    await until(() => process.frames.length === 501, 'all orders are there')
    expect(process.frames.slice(1).map((frame) => frame.type === 'order' && frame.order.ref.epoch)).toEqual(
      Array.from({ length: 500 }, (_, index) => index + 1),
    )
  })

  test('a fact after `restored` does not overtake it', async () => {
    await using server = await startTestServer()
    const offer = await switchGeneration(server.catalog, ['orders'])
    const process = await joinedProcess(server, 'orders')
    process.send({ type: 'restored', restore: offer.restore })
    process.send({ type: 'fact', fact: held(1) })
    await until(() => server.events.length === 2, 'both are told')
    expect(server.events.map(({ type }) => type)).toEqual(['restored', 'fact'])
  })

  test('a restore that fails is told, and stays pending', async () => {
    await using server = await startTestServer()
    const offer = await switchGeneration(server.catalog, ['orders'])
    const process = await joinedProcess(server, 'orders')
    const failure = { code: 'unexpected', message: 'the hook threw', retry: 'never' } as const
    process.send({ type: 'restoreFailed', restore: offer.restore, failure })
    await until(() => server.events.length === 1, 'it is told')
    expect(server.events[0]).toMatchObject({ type: 'restoreFailed', message: 'the hook threw' })
    expect(await server.catalog.pendingRestores('shop')).toHaveLength(1)
  })

  test('C8: evidence of another incarnation ends the session', async () => {
    await using server = await startTestServer()
    const process = await joinedProcess(server, 'orders')
    const { incarnation } = hello('payments', 'life-9')
    const fact = { type: 'ready', ref, incarnation, estimateBytes: 0, version: '1', notes: [] } as const
    process.send({ type: 'fact', fact })
    expect(await refusalOf(process)).toMatchObject({ code: 'incarnation_foreign' })
    expect(server.events.map(({ type }) => type)).toEqual(['lost'])
  })

  test('C8: an answer to a restore that was not offered changes nothing', async () => {
    await using server = await startTestServer()
    const process = await joinedProcess(server, 'orders')
    const offer = await switchGeneration(server.catalog, ['orders'])
    process.send({ type: 'restored', restore: offer.restore })
    process.send({ type: 'fact', fact: held(1) })
    await until(() => server.events.length === 1, 'the fact is told')
    expect(server.events.map(({ type }) => type)).toEqual(['fact'])
    expect(await server.catalog.pendingRestores('shop')).toHaveLength(1)
  })

  test('S2: a listener is not called back from within its own call', async () => {
    await using server = await startTestServer({ limits: { bufferedBytesMax: 0 } })
    const process = await joinedProcess(server, 'orders')
    process.socket.pause()
    const [orders] = server.processes.connected()
    if (orders === undefined) throw new Error('orders is connected')
    const reason = 'x'.repeat(8 * 1024 * 1024)
    let isWithin = true
    let wasWithin: boolean | undefined
    server.processes.subscribe(() => {
      wasWithin = isWithin
    })
    let sent = 0
    while (server.processes.send(orders, { type: 'release', ref, outcome: 'aborted', reason })) sent += 1
    isWithin = false
    await until(() => wasWithin !== undefined, 'the loss is told')
    expect(wasWithin).toBe(false)
    // One frame is on its way, the next one finds it waiting: no more is kept than that.
    expect(sent).toBeLessThan(5)
    expect(server.processes.connected()).toEqual([])
    process.socket.terminate()
  })
})

describe('the limits of a connection', () => {
  test('a frame that is too large ends the session', async () => {
    await using server = await startTestServer({ limits: { frameBytesMax: 10_000 } })
    const process = await joinedProcess(server, 'orders')
    process.socket.send(JSON.stringify({ type: 'fact', fact: { padding: 'x'.repeat(20_000) } }))
    expect((await process.closed()).code).toBe(1009)
    await until(() => server.events.length === 1, 'the loss is told')
    expect(server.events[0]).toMatchObject({ type: 'lost' })
  })

  test('binary frames, and more frames than allowed, end the session', async () => {
    await using server = await startTestServer({ limits: { frameBurst: 20, framesPerSecond: 1 } })
    const binary = await joinedProcess(server, 'orders')
    binary.socket.send(Buffer.from('{}'), { binary: true })
    expect((await binary.closed()).code).toBe(1003)
    const flooding = await joinedProcess(server, 'payments')
    for (let hold = 1; hold <= 100; hold++) flooding.send({ type: 'fact', fact: held(hold) })
    const { code, reason } = await flooding.closed()
    expect(code).toBe(1008)
    expect(reason).toContain('frames per second')
    expect(server.events.filter(({ type }) => type === 'fact').length).toBeLessThan(20)
  })

  test('a process that falls silent is lost; one that answers heartbeats is not', async () => {
    await using server = await startTestServer({ limits: { heartbeatMs: 40, silentBeatsMax: 3 } })
    const silent = await openProcess(server, { autoPong: false })
    silent.send(hello('orders'))
    await silent.next('welcome')
    let pings = 0
    const alive = await joinedProcess(server, 'payments')
    alive.socket.on('ping', () => {
      pings += 1
    })
    await until(() => server.events.length === 1, 'the silent one is lost')
    await until(() => pings > 8, 'the other has been asked more often than that')
    expect(server.events).toEqual([{ type: 'lost', name: 'orders' as ParticipantName, incarnation: 'life-1' }])
    expect(server.processes.connected()).toEqual([{ name: 'payments', incarnation: 'life-1' }])
  })

  test('a process is answered when it asks whether the server lives', async () => {
    await using server = await startTestServer()
    const process = await joinedProcess(server, 'orders')
    const pong = new Promise((resolve) => process.socket.once('pong', resolve))
    process.socket.ping()
    await pong
  })

  test('when the server ends, sessions are closed, and say why', async () => {
    await using server = await startTestServer()
    const process = await joinedProcess(server, 'orders')
    await server.close()
    expect(await process.closed()).toEqual({ code: 1001, reason: 'the server is being stopped' })
  })
})
