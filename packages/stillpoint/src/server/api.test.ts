/** The operations over HTTP: the routes, and the client that speaks to them. */
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { Failure, type FailureReport } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import type { OperationContext, OperationEvent, Operations } from '../coordinator/operations.ts'
import { systemClock } from '../system-env.ts'
import { apiRoutes } from './api-routes.ts'
import { connectOperations } from './client.ts'
import { detail, joinedProcess, startTestServer, summary, type TestServer, until } from './workbench.ts'

const context = (onEvent: (event: OperationEvent) => void = () => {}, signal = new AbortController().signal) => ({
  signal,
  onEvent,
})

function clientOf({ url, token }: Pick<TestServer, 'url' | 'token'>, silenceMs = 5_000): Operations {
  return connectOperations({ url, token, clock: systemClock, silenceMs })
}

/** An operation that goes on until it is cancelled, and tells when it was. */
function endless() {
  const seen = { begun: 0, cancelledWith: undefined as unknown }
  const work = ({ signal, onEvent }: OperationContext) =>
    new Promise<never>((_, reject) => {
      seen.begun += 1
      onEvent({ type: 'phase', phase: 'quiesce', attempt: 1 })
      signal.addEventListener('abort', () => {
        seen.cancelledWith = signal.reason
        reject(signal.reason)
      })
    })
  return { seen, work }
}

describe('who may ask', () => {
  test('nothing but /healthz answers without the token, whether it exists or not', async () => {
    await using server = await startTestServer()
    const paths = [...apiRoutes.map(({ method, path }) => ({ method, path })), { method: 'GET', path: '/v1/events' }]
    for (const { method, path } of [
      ...paths,
      { method: 'GET', path: '/v1/openapi.json' },
      { method: 'PUT', path: '/x' },
    ]) {
      const answer = await fetch(new URL(path, server.url), { method, headers: { authorization: 'Bearer x' } })
      expect([path, answer.status, await answer.json()]).toMatchObject([path, 401, { code: 'unauthenticated' }])
    }
    expect(await (await fetch(new URL('/healthz', server.url))).json()).toEqual({ status: 'ok' })
  })

  test('no page of a browser, under whatever name it reaches the server', async () => {
    await using server = await startTestServer()
    const port = new URL(server.url).port
    const status = async (headers: readonly string[]) => {
      const lines = ['GET /healthz HTTP/1.1', ...headers, 'connection: close', '', '']
      const socket = connect(Number(port), '127.0.0.1')
      socket.end(lines.join('\r\n'))
      let text = ''
      for await (const chunk of socket) text += String(chunk)
      return Number(text.split(' ')[1])
    }
    expect(await status([`host: 127.0.0.1:${port}`])).toBe(200)
    expect(await status([`host: localhost:${port}`])).toBe(200)
    expect(await status([`host: [::1]:${port}`])).toBe(200)
    expect(await status([`host: rebound.example:${port}`])).toBe(403)
    expect(await status([`host: 127.0.0.1.rebound.example`])).toBe(403)
    expect(await status([`host: localhost:${port}`, 'origin: http://evil.example'])).toBe(403)
    expect(await status([`host: localhost:${port}`, 'origin: null'])).toBe(403)
    expect(await status([`host: localhost:${port}`, 'sec-fetch-site: cross-site'])).toBe(403)
    expect(await status([`host: localhost:${port}`, `origin: http://localhost:${port}`])).toBe(200)
  })

  test('another configuration as the target is for the machine of the server only, and absolute', async () => {
    await using server = await startTestServer()
    const answer = await server.fetch('/v1/restores', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ snapshot: 'latest', toConfig: 'other.yaml' }),
    })
    expect([answer.status, await answer.json()]).toMatchObject([400, { code: 'request_invalid' }])
    const [restore] = apiRoutes.filter(({ kind }) => kind === 'restore')
    const call = { params: {}, body: { snapshot: 'latest', toConfig: '/srv/other.yaml' } }
    expect(() => restore?.prepare({ ...call, isLocal: false })).toThrow(/from another machine/)
    expect(() => restore?.prepare({ ...call, isLocal: true })).not.toThrow()
  })
})

describe('bad requests are answered as failures', () => {
  const json = { 'content-type': 'application/json' }
  test.each([
    ['no JSON', 'POST', '/v1/snapshots', json, '{', 400, 'request_invalid'],
    ['an unknown key', 'POST', '/v1/snapshots', json, '{"allow":true}', 400, 'request_invalid'],
    ['a wrong type', 'POST', '/v1/snapshots', json, '{"tags":"nightly"}', 400, 'request_invalid'],
    ['a tag with a comma', 'POST', '/v1/snapshots', json, '{"tags":["a,b"]}', 400, 'request_invalid'],
    [
      'another media type',
      'POST',
      '/v1/snapshots',
      { 'content-type': 'text/xml' },
      '<a/>',
      415,
      'media_type_unsupported',
    ],
    ['a body of 2 MB', 'POST', '/v1/snapshots', json, ' '.repeat(2_000_000), 413, 'request_too_large'],
    ['no body', 'POST', '/v1/restores', {}, undefined, 400, 'request_invalid'],
    ['an id that climbs', 'GET', '/v1/snapshots/..%2F..%2Fetc', {}, undefined, 400, 'request_invalid'],
    ['an endless id', 'GET', `/v1/snapshots/${'a'.repeat(900)}`, {}, undefined, 400, 'request_invalid'],
    ['a broken escape', 'GET', '/v1/snapshots/%zz', {}, undefined, 400, 'request_invalid'],
    ['an unknown place', 'GET', '/v1/other', {}, undefined, 404, 'route_absent'],
    ['an unknown method', 'PATCH', '/v1/snapshots', {}, undefined, 404, 'route_absent'],
  ])('%s', async (_what, method, path, headers: Record<string, string>, body, status, code) => {
    await using server = await startTestServer()
    const answer = await server.fetch(path, { method, headers, ...(body === undefined ? {} : { body }) })
    expect([answer.status, await answer.json()]).toMatchObject([status, { code, retry: 'never' }])
  })
})

describe('an operation', () => {
  test('as plain JSON: the result, or the failure with its status', async () => {
    const asked: unknown[] = []
    await using server = await startTestServer({
      operations: {
        take: async (request) => {
          asked.push(request)
          return detail
        },
        show: async (id) => {
          throw new Failure({ code: 'snapshot_absent', message: `There is no snapshot ${id}`, hint: 'stillpoint list' })
        },
        status: async () => {
          throw new Error('a bug')
        },
      },
    })
    const taken = await server.fetch('/v1/snapshots', { method: 'POST' })
    expect([taken.status, await taken.json()]).toEqual([200, JSON.parse(JSON.stringify(detail))])
    expect(asked).toEqual([{ allowInconsistent: false, tags: [] }])
    const absent = await server.fetch('/v1/snapshots/abc')
    expect([absent.status, await absent.json()]).toEqual([
      404,
      { code: 'snapshot_absent', message: 'There is no snapshot abc', hint: 'stillpoint list', retry: 'never' },
    ])
    const broken = await server.fetch('/v1/status')
    expect([broken.status, await broken.json()]).toMatchObject([500, { code: 'unexpected' }])
    expect(server.log.some(({ level, message }) => level === 'error' && message.includes('a bug'))).toBe(true)
  })

  test('as server-sent events and as lines: what happens, then the result', async () => {
    await using server = await startTestServer({
      operations: {
        take: async (_request, { onEvent }) => {
          onEvent({ type: 'phase', phase: 'mark', attempt: 1 })
          onEvent({ type: 'note', participant: null, text: 'two\nlines' })
          return detail
        },
      },
    })
    const ask = (accept: string) => server.fetch('/v1/snapshots', { method: 'POST', headers: { accept } })
    const lines = (await (await ask('application/x-ndjson')).text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(lines.map(({ type }) => type)).toEqual(['event', 'event', 'result'])
    const sse = await ask('text/event-stream')
    expect(sse.headers.get('content-type')).toBe('text/event-stream')
    const blocks = (await sse.text()).trim().split('\n\n')
    expect(blocks.map((block) => block.split('\n')[0])).toEqual(['event: event', 'event: event', 'event: result'])
    expect(blocks.every((block) => block.split('\n').length === 2)).toBe(true)
  })

  test.each(['application/json', 'application/x-ndjson', 'text/event-stream'])(
    'is cancelled when the reader of %s goes',
    async (accept) => {
      const { seen, work } = endless()
      await using server = await startTestServer({ operations: { take: (_request, each) => work(each) } })
      const gone = new AbortController()
      const answer = server.fetch('/v1/snapshots', { method: 'POST', headers: { accept }, signal: gone.signal })
      const ended = answer.then((each) => each.text()).catch((error: unknown) => error)
      await until(() => seen.begun === 1, 'it has begun')
      expect(seen.cancelledWith).toBeUndefined()
      gone.abort()
      await until(() => seen.cancelledWith !== undefined, 'it is cancelled')
      expect(seen.cancelledWith).toMatchObject({ code: 'operation_cancelled' })
      await ended
    },
  )

  test('that has ended is not cancelled by the end of its answer', async () => {
    let signal: AbortSignal | undefined
    await using server = await startTestServer({
      operations: {
        list: async (each) => {
          signal = each.signal
          return [summary]
        },
      },
    })
    await (await server.fetch('/v1/snapshots')).text()
    await (await server.fetch('/v1/snapshots', { headers: { connection: 'close' } })).text()
    await new Promise<void>((wake) => systemClock.after(50, wake))
    expect(signal?.aborted).toBe(false)
  })

  test('of a reader that stops reading keeps only the latest progress of each participant', async () => {
    let rounds = 0
    let finish = () => {}
    const finished = new Promise<void>((resolve) => {
      finish = resolve
    })
    await using server = await startTestServer({
      operations: {
        verify: async (_id, { onEvent }) => {
          const participant = `orders-${'x'.repeat(1_000)}`
          for (rounds = 1; rounds <= 20_000; rounds++) {
            onEvent({ type: 'progress', participant, bytes: rounds, bytesTotal: null, files: 0 })
          }
          await finished
          return { id: summary.id, passed: true, verdict: 'consistent', checks: [], bytesRead: 1 }
        },
      },
    })
    const answer = await server.fetch('/v1/snapshots/abc/verify', {
      method: 'POST',
      headers: { accept: 'application/x-ndjson' },
    })
    await until(() => rounds > 20_000, 'all is told')
    const reading = answer.text()
    // Long enough for a sign of life to come before the result.
    await new Promise<void>((wake) => systemClock.after(400, wake))
    finish()
    const text = await reading
    expect(text.length).toBeLessThan(20_000 * 1_000)
    const lines = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
      .filter(({ type }) => type !== 'alive')
    expect(lines.at(-1)).toMatchObject({ type: 'result' })
    expect(lines.at(-2)).toMatchObject({ event: { bytes: 20_000 } })
  })
})

describe('the client', () => {
  test('carries every operation, its input and its answer', async () => {
    const calls: unknown[] = []
    const note =
      <T>(name: string, answer: T) =>
      async (...inputs: unknown[]): Promise<T> => {
        calls.push([name, ...inputs.slice(0, -1)])
        return answer
      }
    const status = { system: 'shop', generation: 1, epoch: 2, participants: [] }
    const verified = { id: summary.id, passed: true, verdict: 'consistent', checks: [], bytesRead: 5 } as const
    const diff = { from: 'a', to: 'b', participants: [] }
    const restored = { id: summary.id, restore: 'r', generation: 2, participants: [], damage: ['broken link'] }
    await using server = await startTestServer({
      operations: {
        status: note('status', status),
        take: note('take', detail),
        list: note('list', [summary]),
        show: note('show', detail),
        verify: note('verify', verified),
        diff: note('diff', diff),
        restore: note('restore', restored),
        remove: note('remove', { id: summary.id }),
      },
    })
    const client = clientOf(server)
    const take = { allowInconsistent: true, tags: ['nightly'] }
    const restore = { snapshot: 'abc', participants: ['orders'], replace: true, toConfig: '/srv/other.yaml' }
    expect(await client.status(context())).toEqual(status)
    expect(await client.take(take, context())).toEqual(detail)
    expect(await client.list(context())).toEqual([summary])
    expect(await client.show('abc', context())).toEqual(detail)
    expect(await client.verify('abc', context())).toEqual(verified)
    expect(await client.diff('a', 'b', context())).toEqual(diff)
    expect(await client.restore(restore, context())).toEqual(restored)
    expect(await client.remove('abc', context())).toEqual({ id: summary.id })
    expect(calls).toEqual([
      ['status'],
      ['take', take],
      ['list'],
      ['show', 'abc'],
      ['verify', 'abc'],
      ['diff', 'a', 'b'],
      ['restore', restore],
      ['remove', 'abc'],
    ])
  })

  test('tells what happens while it happens, and rebuilds failures', async () => {
    let goOn = () => {}
    const told = new Promise<void>((resolve) => {
      goOn = resolve
    })
    const failure: FailureReport = {
      code: 'participant_timeout',
      message: 'orders did not answer',
      hint: 'wait',
      retry: 'later',
    }
    await using server = await startTestServer({
      operations: {
        take: async (_request, { onEvent }) => {
          onEvent({ type: 'phase', phase: 'plan', attempt: 1 })
          onEvent({ type: 'retry', attempt: 1, delayMs: 5, failure })
          // Without the event being delivered before the end, this would never go on.
          await told
          throw new Failure(failure)
        },
      },
    })
    const events: OperationEvent[] = []
    const onEvent = (event: OperationEvent) => {
      events.push(event)
      if (events.length === 2) goOn()
    }
    const taking = clientOf(server).take({ allowInconsistent: false, tags: [] }, context(onEvent))
    await expect(taking).rejects.toMatchObject({ name: 'Failure', ...failure })
    expect(events).toEqual([
      { type: 'phase', phase: 'plan', attempt: 1 },
      { type: 'retry', attempt: 1, delayMs: 5, failure },
    ])
  })

  test('cancels at the server when its signal aborts, and answers its reason', async () => {
    const { seen, work } = endless()
    await using server = await startTestServer({ operations: { take: (_request, each) => work(each) } })
    const stop = new AbortController()
    const taking = clientOf(server).take({ allowInconsistent: false, tags: [] }, context(undefined, stop.signal))
    await until(() => seen.begun === 1, 'it has begun')
    const reason = new Failure({ code: 'interrupted', message: 'Ctrl-C' })
    stop.abort(reason)
    await expect(taking).rejects.toBe(reason)
    await until(() => seen.cancelledWith !== undefined, 'it is cancelled there')
  })

  test('goes on for as long as a quiet operation does, and gives up a server that is silent', async () => {
    let slowMs = 300
    await using server = await startTestServer({
      limits: { aliveMs: 20 },
      operations: {
        list: async () => {
          await new Promise<void>((wake) => systemClock.after(slowMs, wake))
          return [summary]
        },
      },
    })
    expect(await clientOf(server, 150).list(context())).toEqual([summary])
    slowMs = 0
    const dumb = createServer(() => {})
    await new Promise<void>((resolve) => dumb.listen(0, '127.0.0.1', resolve))
    const address = dumb.address()
    const port = typeof address === 'object' ? address?.port : 0
    const deaf = connectOperations({ url: `http://127.0.0.1:${port}`, token: 'x', clock: systemClock, silenceMs: 100 })
    await expect(deaf.list(context())).rejects.toMatchObject({ code: 'server_silent', retry: 'later' })
    dumb.closeAllConnections()
    dumb.close()
  })

  test('says what is wrong with a server that is not there, not ours, or gone in the middle', async () => {
    const { seen, work } = endless()
    const server = await startTestServer({
      limits: { stopMs: 10 },
      operations: { take: (_request, each) => work(each), list: () => new Promise(() => {}) },
    })
    const client = clientOf(server)
    await expect(clientOf({ ...server, token: 'wrong' }).list(context())).rejects.toMatchObject({
      code: 'unauthenticated',
    })
    const taking = client.take({ allowInconsistent: false, tags: [] }, context())
    const stuck = client.list(context())
    const ended = Promise.allSettled([taking, stuck])
    await until(() => seen.begun === 1, 'it has begun')
    await server[Symbol.asyncDispose]()
    const [stopped, lost] = await ended
    expect(stopped).toMatchObject({ reason: { code: 'server_stopping' } })
    expect(lost).toMatchObject({ reason: { code: 'server_lost', hint: expect.stringContaining('stillpoint list') } })
    await expect(client.list(context())).rejects.toMatchObject({ code: 'server_unreachable', retry: 'later' })
    const other = createServer((_request, response) => response.end('<html>'))
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const address = other.address()
    const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`
    await expect(clientOf({ url, token: 'x' }).list(context())).rejects.toMatchObject({ code: 'server_answer_invalid' })
    other.closeAllConnections()
    other.close()
  })
})

describe('live events', () => {
  test('tell what happens, in order, and again to who comes back', async () => {
    await using server = await startTestServer({
      operations: {
        take: async (_request, { onEvent }) => {
          onEvent({ type: 'phase', phase: 'seal', attempt: 1 })
          return detail
        },
      },
    })
    const watching = await server.fetch('/v1/events', { headers: { accept: 'application/x-ndjson' } })
    await joinedProcess(server, 'orders')
    await (await server.fetch('/v1/snapshots', { method: 'POST' })).text()
    await (await server.fetch('/v1/snapshots')).text()
    const again = await server.fetch('/v1/events', {
      headers: { accept: 'application/x-ndjson', 'last-event-id': '1' },
    })
    await server.close()
    const read = async (answer: Response) =>
      (await answer.text())
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line))
        .filter(({ type }) => type !== 'alive')
    const first = await read(watching)
    expect(first.map(({ event }) => event.type)).toEqual([
      'processConnected',
      'operationStarted',
      'operationEvent',
      'operationSucceeded',
    ])
    expect(first.map(({ id }) => id)).toEqual([1, 2, 3, 4])
    expect(first[3].event).toMatchObject({ snapshot: detail.id })
    expect(await read(again)).toEqual(first.slice(1))
  })
})

test('/v1/openapi.json describes every route, with resolvable schemas', async () => {
  await using server = await startTestServer()
  const document: unknown = await (await server.fetch('/v1/openapi.json')).json()
  const answer = { content: { 'application/json': { schema: { type: expect.any(String) } } } }
  for (const { method, path, kind } of apiRoutes) {
    const operation = { operationId: kind, responses: { 200: answer } }
    const described = { [path.replace(/:(\w+)/g, '{$1}')]: { [method.toLowerCase()]: operation } }
    expect(document).toMatchObject({ openapi: '3.1.0', paths: described })
  }
  const schema = { additionalProperties: false, properties: { allowInconsistent: { type: 'boolean', default: false } } }
  const requestBody = { content: { 'application/json': { schema } } }
  expect(document).toMatchObject({ paths: { '/v1/snapshots': { post: { requestBody } } } })
  expect(JSON.stringify(document)).not.toContain('"$ref"')
})
