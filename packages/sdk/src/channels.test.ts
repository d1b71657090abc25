/** Channels over WebSocket when things break: connections, receivers, generations, tokens, room. */

import type { Failure } from '@stillpoint/core/kernel'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { join } from './join.ts'
import type { JoinOptions } from './options.ts'
import type { Participant } from './participant.ts'
import { breakableProxy } from './testing/breakable-proxy.ts'
import { type ScriptedCoordinator, scriptedCoordinator, testToken } from './testing/scripted-coordinator.ts'

const open: { close(): unknown }[] = []
let coordinator: ScriptedCoordinator
beforeEach(async () => {
  coordinator = await scriptedCoordinator()
  open.push(coordinator)
})
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close()
})

function start(name: string, more: Partial<JoinOptions> = {}): Participant & { readonly errors: Failure[] } {
  const errors: Failure[] = []
  const participant = join({
    name,
    server: coordinator.url,
    ...(more.tokenFile === undefined ? { token: testToken } : {}),
    onError: (error) => errors.push(error as Failure),
    ...more,
  })
  open.push({ close: () => participant.close({ flushMs: 1 }) })
  return Object.assign(participant, { errors })
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

describe('a channel', () => {
  test('loses and repeats nothing while its connection is cut again and again, and keeps the order', async () => {
    const a = start('a')
    const b = start('b')
    const got: number[] = []
    b.receive('a', (message) => void got.push(Number(message.text())))
    const { port, url } = await b.listen()
    const proxy = await breakableProxy(port)
    open.push(proxy)
    const channel = a.channel('b', { url: url.replace(String(port), String(proxy.port)) })
    await Promise.all([a.joined, b.joined])
    for (let n = 1; n <= 2_000; n += 1) {
      await channel.send(String(n))
      if (n % 200 === 0) {
        await pause(3)
        proxy.cut()
      }
    }
    await channel.flushed()
    expect(got).toEqual(Array.from({ length: 2_000 }, (_, index) => index + 1))
    expect(channel.unhandled()).toBe(0)
  })

  test('sends again, with the same ids, what a receiver that died had not handled', async () => {
    const a = start('a')
    const first = start('b')
    const started: string[] = []
    first.receive('a', (message) => {
      started.push(message.id)
      return message.id === 'm2' ? new Promise(() => {}) : undefined // Dies in its second message.
    })
    const listening = await first.listen()
    const proxy = await breakableProxy(listening.port)
    open.push(proxy)
    const channel = a.channel('b', { url: listening.url.replace(String(listening.port), String(proxy.port)) })
    await Promise.all([a.joined, first.joined])
    for (const id of ['m1', 'm2', 'm3']) await channel.send(id, { id })
    await coordinator.until(() => started.includes('m2') && channel.unhandled() === 2, 'the second message')
    await first.close({ flushMs: 1 })

    const second = start('b')
    const got: string[] = []
    second.receive('a', (message) => void got.push(message.id))
    proxy.target = (await second.listen()).port
    await channel.flushed()
    expect(started).toEqual(['m1', 'm2'])
    expect(got).toEqual(['m2', 'm3'])
    // The next cut counts the new session only, from its beginning.
    const result = await coordinator.cut(['a', 'b'])
    const sent = result.marks.get('a')?.sent
    expect(sent).toHaveLength(1)
    expect(sent?.[0]?.sent).toBe(2)
    expect(result.drained.get('b')?.every(({ missing }) => missing.length === 0)).toBe(true)
  })

  test('counts what a handler sends without waiting, also when there is no room yet', async () => {
    const a = start('a', { bufferMessagesMax: 2 })
    const b = start('b')
    const got: string[] = []
    b.receive('a', async (message) => {
      await pause(5)
      got.push(message.text())
    })
    const { url } = await b.listen()
    await Promise.all([a.joined, b.joined])
    const channel = a.channel('b', { url })
    let isDone = false
    await a.run(() => {
      for (const text of ['1', '2', '3', '4']) void channel.send(text)
      isDone = true
    })
    // The work has returned, but it has not ended: a cut now waits until the fourth message has its number.
    expect(isDone).toBe(true)
    const result = await coordinator.cut(['a', 'b'])
    expect(result.marks.get('a')?.sent[0]?.sent).toBe(4)
    await channel.flushed()
    expect(got).toEqual(['1', '2', '3', '4'])
  })

  test('says that it is full instead of growing without a bound', async () => {
    const a = start('a', { bufferMessagesMax: 2 })
    await a.joined
    const channel = a.channel('b', { url: 'ws://127.0.0.1:9/nobody' })
    const outcomes = [...'123456'].map(() => 'waits')
    const refusals: unknown[] = []
    for (const at of outcomes.keys()) {
      channel.send(`${at}`).then(
        () => {
          outcomes[at] = 'sent'
        },
        (error) => {
          outcomes[at] = 'refused'
          refusals.push(error)
        },
      )
    }
    await coordinator.until(() => !outcomes.slice(4).includes('waits'), 'the refusals')
    // Two in the buffer, two waiting, two refused.
    expect(outcomes).toEqual(['sent', 'sent', 'waits', 'waits', 'refused', 'refused'])
    expect(refusals).toMatchObject([{ code: 'channel_full' }, { code: 'channel_full' }])
  })

  test('refuses a message above the limit, before it counts it', async () => {
    const a = start('a', { messageBytesMax: 10 })
    await a.joined
    const channel = a.channel('b', { url: 'ws://127.0.0.1:9/nobody' })
    await expect(channel.send('12345678901')).rejects.toMatchObject({ code: 'message_too_large' })
    expect(channel.unhandled()).toBe(0)
  })

  test('carries texts, bytes and JSON as they are', async () => {
    const a = start('a')
    const b = start('b')
    const got: unknown[] = []
    b.receive('a', (message) => {
      got.push(
        message.type === 'bytes' ? [...message.bytes()] : message.type === 'json' ? message.json() : message.text(),
      )
    })
    const { url } = await b.listen()
    const channel = a.channel('b', { url })
    await channel.send('\ufeffgrüß dich') // Also before it has joined.
    await channel.send(Uint8Array.of(0, 255, 10))
    await channel.send({ list: [1, null, 'x'] })
    await channel.flushed()
    expect(got).toEqual(['\ufeffgrüß dich', [0, 255, 10], { list: [1, null, 'x'] }])
  })

  test('goes on behind a handler that throws: the error is reported, the message counts as handled', async () => {
    const a = start('a')
    const b = start('b')
    const got: string[] = []
    b.receive('a', (message) => {
      if (message.text() === 'bad') throw new Error('cannot handle this')
      got.push(message.text())
    })
    const { url } = await b.listen()
    const channel = a.channel('b', { url })
    for (const text of ['1', 'bad', '2']) await channel.send(text)
    await channel.flushed()
    expect(got).toEqual(['1', '2'])
    expect(b.errors.map(({ message }) => message)).toEqual(['cannot handle this'])
  })

  test('refuses a peer with another token, and takes none of its messages', async () => {
    const other = await scriptedCoordinator()
    open.push(other)
    const b = start('b')
    const got: string[] = []
    b.receive('a', (message) => void got.push(message.text()))
    const { url } = await b.listen()
    await b.joined
    const { WebSocket } = await import('ws')
    const status = await new Promise((resolve) => {
      const socket = new WebSocket(url, { headers: { authorization: 'Bearer wrong' } })
      socket.on('unexpected-response', (_request, response) => resolve(response.statusCode))
      socket.on('error', () => {})
    })
    expect(status).toBe(401)
    expect(got).toEqual([])
  })

  test('closes on a peer that leaves out a number, without handing the message over', async () => {
    const b = start('b')
    const got: string[] = []
    b.receive('x', (message) => void got.push(message.text()))
    const { url } = await b.listen()
    await b.joined
    const { encodeMessage } = await import('./websocket/peer-frames.ts')
    const { WebSocket } = await import('ws')
    const socket = new WebSocket(url, { headers: { authorization: `Bearer ${testToken}` } })
    const closed = new Promise((resolve) => socket.on('close', resolve))
    socket.on('open', () => {
      const frame = { type: 'open', version: 1, from: 'x', to: 'b', incarnation: 'i', generation: 1, session: 's' }
      socket.send(JSON.stringify(frame))
      const header = { seq: 2, epoch: 0, message: 'm' as never, type: 'text' } as const
      socket.send(encodeMessage(header, { type: 'text', bytes: Buffer.from('x') }))
    })
    expect(await closed).toBe(1002)
    expect(got).toEqual([])
    expect(b.errors[0]?.message).toContain('where 1 was due')
  })
})

describe('generations (C9)', () => {
  test('a process that has not been restored is refused, and what it buffered is dropped; then it goes on', async () => {
    const a = start('a')
    const b = start('b')
    const got: string[] = []
    b.receive('a', (message) => void got.push(message.text()))
    const { url } = await b.listen()
    await Promise.all([a.joined, b.joined])
    const channel = a.channel('b', { url })
    await channel.send('before')
    await channel.flushed()
    // Only b is told of the restore: a is the one who does not know yet.
    const offer = { restore: 'r1', snapshot: 's1', generation: 2, epoch: 5 }
    coordinator.restoreAll(['b'], offer)
    await coordinator.until(() => coordinator.frames.some(({ frame }) => frame.type === 'restored'), 'b restored')
    await channel.send('of the old generation').catch(() => {})
    await coordinator.until(() => a.errors.some(({ code }) => code === 'generation_older'), 'the refusal')
    await expect(channel.send('again')).rejects.toMatchObject({ code: 'generation_older' })
    expect(got).toEqual(['before'])

    coordinator.restoreAll(['a'], offer)
    await coordinator.until(() => a.status().generation === 2 && a.status().phase === 'serving', 'a restored')
    await channel.send('after')
    await channel.flushed()
    expect(got).toEqual(['before', 'after'])
  })

  test('what is sent to a process that has not been restored yet waits for it', async () => {
    const a = start('a')
    const b = start('b')
    const got: string[] = []
    b.receive('a', (message) => void got.push(message.text()))
    const { url } = await b.listen()
    await Promise.all([a.joined, b.joined])
    const channel = a.channel('b', { url })
    const offer = { restore: 'r1', snapshot: 's1', generation: 2, epoch: 5 }
    coordinator.restoreAll(['a'], offer)
    await coordinator.until(() => a.status().generation === 2 && a.status().phase === 'serving', 'a restored')
    await channel.send('new')
    await pause(100)
    expect(got).toEqual([])
    coordinator.restoreAll(['b'], offer)
    await channel.flushed()
    expect(got).toEqual(['new'])
  })

  test('work that began before a restore can send nothing after it', async () => {
    const a = start('a')
    await a.joined
    const channel = a.channel('b', { url: 'ws://127.0.0.1:9/nobody' })
    const go = Promise.withResolvers<void>()
    const old = a.run(async () => {
      await go.promise
      await channel.send('of the replaced state')
    })
    coordinator.restoreAll(['a'], { restore: 'r1', snapshot: 's1', generation: 2, epoch: 5 })
    await coordinator.until(() => a.status().phase === 'restoring', 'the restore')
    // The restore waits for the work to end before it touches the state.
    await pause(30)
    expect(a.status().phase).toBe('restoring')
    go.resolve()
    await expect(old).rejects.toMatchObject({ code: 'generation_over' })
    await coordinator.until(() => a.status().phase === 'serving', 'the end of the restore')
    expect(channel.unhandled()).toBe(0)
  })
})
