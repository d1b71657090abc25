/** The bulk data of processes, over real sockets: bytes pass through, and nothing else does. */
import { createHash } from 'node:crypto'
import { request as httpRequest } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { CutRef, RestoreOffer } from '@stillpoint/core'
import { Failure } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../system-env.ts'
import type { ByteStream, ProcessCaptures } from './ports.ts'
import {
  joinedProcess,
  startTestServer,
  summary,
  switchGeneration,
  type TestServer,
  type TestServerOptions,
  until,
} from './workbench.ts'

const ref: CutRef = { cut: 'cut-1' as CutRef['cut'], epoch: 1, generation: 0, fencing: 1 }
const MiB = 1024 * 1024

function order(server: TestServer, type: 'prepare' | 'release', name = 'orders', cut: CutRef = ref): void {
  const to = server.processes.connected().find((process) => process.name === name)
  if (to === undefined) throw new Error(`${name} is connected`)
  const role = {
    kind: 'process',
    incarnation: to.incarnation,
    gated: true,
    owns: [],
    handlerMs: 1,
    leaseMs: 1,
  } as const
  server.processes.send(to, type === 'prepare' ? { type, ref: cut, role } : { type, ref: cut, outcome: 'aborted' })
}

/** A server with "orders" in the middle of cut-1. */
async function startUpload(options: TestServerOptions = {}) {
  const server = await startTestServer(options)
  const process = await joinedProcess(server, 'orders')
  order(server, 'prepare')
  const { agentUrl } = process.welcome
  const path = `${new URL(agentUrl).pathname}/v1/captures/cut-1/orders`
  return { server, process, path, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() }
}

async function bytesOf(stream: ByteStream): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** Takes in everything and remembers it by its place. */
function memoryCaptures() {
  const stored = new Map<string, string>()
  const put = async (place: string, stream: ByteStream) => {
    const bytes = await bytesOf(stream)
    stored.set(place, bytes.toString())
    return { bytes: bytes.length }
  }
  const tree = 'ef'.repeat(32) as Awaited<ReturnType<ProcessCaptures['finish']>>['tree']
  const captures: ProcessCaptures = {
    putState: (cut, participant, part, stream) => put(`${cut}/${participant}/${part}`, stream),
    putChannel: (cut, participant, channel, stream) => put(`${cut}/${participant}/${channel}`, stream),
    finish: async () => ({ tree, bytes: 1, files: 1, torn: [], notes: [], channels: {} }),
  }
  return { stored, captures }
}

describe('uploads', () => {
  test('reach the agent by their names, and finish answers the evidence', async () => {
    const { stored, captures } = memoryCaptures()
    await using upload = await startUpload({ captures })
    const put = (place: string, body: string) => upload.server.fetch(`${upload.path}/${place}`, { method: 'PUT', body })
    expect(await (await put('state/accounts.db', 'state')).json()).toEqual({ bytes: 5 })
    const channel = encodeURIComponent('payments→orders#retry')
    expect(await (await put(`channels/${channel}`, '{}\n')).json()).toEqual({ bytes: 3 })
    expect((await put('state/empty', '')).status).toBe(200)
    const finished = await upload.server.fetch(`${upload.path}/finish`, { method: 'POST' })
    expect(await finished.json()).toMatchObject({ tree: 'ef'.repeat(32) })
    expect(Object.fromEntries(stored)).toEqual({
      'cut-1/orders/accounts.db': 'state',
      'cut-1/orders/payments→orders#retry': '{}\n',
      'cut-1/orders/empty': '',
    })
  })

  test('of 50 MB pass as a stream: the agent that stops taking stops the sender', async () => {
    const total = 50 * MiB
    const digest = createHash('sha256')
    let taken = 0
    let produced = 0
    let producedWhenPaused = 0
    let resume = () => {}
    const resumed = new Promise<void>((resolve) => {
      resume = resolve
    })
    await using upload = await startUpload({
      captures: {
        putState: async (_cut, _participant, _part, stream) => {
          for await (const chunk of stream) {
            taken += chunk.length
            digest.update(chunk)
            if (taken === chunk.length) await resumed
          }
          return { bytes: taken }
        },
      },
    })
    const sent = createHash('sha256')
    async function* body() {
      for (let index = 0; produced < total; index++) {
        const chunk = Buffer.alloc(MiB, index)
        sent.update(chunk)
        produced += chunk.length
        yield chunk
      }
    }
    const { url, token } = upload.server
    const target = new URL(`${upload.path}/state/part`, url)
    const request = httpRequest(target, { method: 'PUT', headers: { authorization: `Bearer ${token}` } })
    const answered = new Promise<number>((resolve, reject) => {
      request.on('response', (response) => {
        response.resume()
        resolve(response.statusCode ?? 0)
      })
      request.on('error', reject)
    })
    const sending = pipeline(Readable.from(body()), request)
    await until(() => taken > 0, 'the first bytes are there')
    // What socket buffers take is produced at once; then nothing more is, however long we wait.
    for (let last = -1; last !== produced; ) {
      last = produced
      await new Promise<void>((wake) => systemClock.after(100, wake))
    }
    producedWhenPaused = produced
    resume()
    await sending
    expect(await answered).toBe(200)
    expect(producedWhenPaused).toBeLessThan(25 * MiB)
    expect(taken).toBe(total)
    expect(digest.digest('hex')).toBe(sent.digest('hex'))
  })

  test.each([
    ['a part that climbs', 'state/..%2Fpart', 400, 'name_invalid'],
    ['a part of 900 characters', `state/${'p'.repeat(900)}`, 400, 'name_invalid'],
    ['a part with a newline', 'state/a%0Ab', 400, 'name_invalid'],
    ['a channel without ends', 'channels/orders', 400, 'name_invalid'],
    ['a channel that climbs', `channels/${encodeURIComponent('../x→orders')}`, 400, 'name_invalid'],
    ['a channel with a bad label', `channels/${encodeURIComponent('payments→orders#A B')}`, 400, 'name_invalid'],
    ['a channel with two labels', `channels/${encodeURIComponent('payments→orders#a#b')}`, 400, 'name_invalid'],
    ['a channel to another process', `channels/${encodeURIComponent('orders→payments')}`, 400, 'name_invalid'],
  ])('%s is refused before a byte is read', async (_what, place, status, code) => {
    await using upload = await startUpload()
    const answer = await upload.server.fetch(`${upload.path}/${place}`, { method: 'PUT', body: 'x' })
    expect([answer.status, await answer.json()]).toMatchObject([status, { code }])
  })

  test('are for the running cut of an open session, and for nobody else', async () => {
    const { stored, captures } = memoryCaptures()
    await using upload = await startUpload({ captures })
    const { server, path } = upload
    const put = async (place: string) => {
      const answer = await server.fetch(place, { method: 'PUT', body: 'x' })
      const { code } = (await answer.json()) as { code?: string }
      return [answer.status, code]
    }
    const payments = await joinedProcess(server, 'payments')
    const foreign = `${new URL(payments.welcome.agentUrl).pathname}/v1/captures/cut-1`
    expect(await put(`${foreign}/orders/state/part`)).toEqual([409, 'session_foreign'])
    expect(await put(`${foreign}/payments/state/part`)).toEqual([409, 'cut_not_running'])
    expect(await put(`${path.replace('cut-1', 'cut-2')}/state/part`)).toEqual([409, 'cut_not_running'])
    expect(await put(`/s/${'0'.repeat(32)}/v1/captures/cut-1/orders/state/part`)).toEqual([503, 'session_ended'])
    expect(await put('/s/short/v1/captures/cut-1/orders/state/part')).toEqual([400, 'request_invalid'])
    const unauthorized = await fetch(new URL(`${path}/state/part`, server.url), { method: 'PUT', body: 'x' })
    expect(unauthorized.status).toBe(401)
    order(server, 'release')
    expect(await put(`${path}/state/part`)).toEqual([409, 'cut_not_running'])
    order(server, 'prepare', 'orders', { ...ref, cut: 'cut-2' as CutRef['cut'] })
    expect(await put(`${path}/state/part`)).toEqual([409, 'cut_not_running'])
    // C8: the next incarnation has a session of its own, and this one's uploads are not mistaken for it.
    upload.process.socket.terminate()
    await until(() => server.processes.connected().length === 1, 'orders is gone')
    await joinedProcess(server, 'orders', 'life-2')
    order(server, 'prepare')
    expect(await put(`${path}/state/part`)).toEqual([503, 'session_ended'])
    expect([...stored]).toEqual([])
  })

  test.each([
    ['the connection is lost', (parts: Parts) => void parts.request.destroy(), 'upload_cut_off'],
    ['the cut is released', (parts: Parts) => order(parts.server, 'release'), 'cut_not_running'],
    ['the session ends', (parts: Parts) => parts.process.socket.terminate(), 'session_ended'],
    ['the server ends', (parts: Parts) => void parts.server.close(), 'session_ended'],
  ])('never end as if they were whole when %s', async (_what, cut, code) => {
    let begun = false
    let outcome: unknown
    await using upload = await startUpload({
      captures: {
        putState: async (_cut, _participant, _part, stream) => {
          try {
            for await (const _ of stream) begun = true
            outcome = 'whole'
          } catch (error) {
            outcome = error
            throw error
          }
          return { bytes: 0 }
        },
      },
    })
    const headers = { authorization: `Bearer ${upload.server.token}` }
    const request = httpRequest(new URL(`${upload.path}/state/part`, upload.server.url), { method: 'PUT', headers })
    request.on('error', () => {}) // that it is cut off is what is tested, at the other end
    request.write('the first half')
    await until(() => begun, 'it has begun')
    cut({ ...upload, request })
    await until(() => outcome !== undefined, 'it has ended')
    expect(outcome).toMatchObject({ code })
    request.destroy()
  })

  test('that the agent refuses in the middle are told why, though the sender was still sending', async () => {
    const failure = new Failure({ code: 'disk_full', message: 'no space is left', retry: 'later' })
    await using upload = await startUpload({
      captures: {
        putState: async (_cut, _participant, _part, stream) => {
          for await (const _ of stream) throw failure
          return { bytes: 0 }
        },
      },
    })
    const body = Buffer.alloc(20 * MiB)
    const answer = await upload.server.fetch(`${upload.path}/state/part`, { method: 'PUT', body })
    expect([answer.status, await answer.json()]).toEqual([
      503,
      { code: 'disk_full', message: 'no space is left', retry: 'later' },
    ])
  })

  test('that are encoded are refused: what arrives is what is stored', async () => {
    await using upload = await startUpload()
    const headers = { 'content-encoding': 'gzip' }
    const answer = await upload.server.fetch(`${upload.path}/state/part`, { method: 'PUT', headers, body: 'x' })
    expect([answer.status, await answer.json()]).toMatchObject([415, { code: 'media_type_unsupported' }])
  })
})

type Parts = Awaited<ReturnType<typeof startUpload>> & { readonly request: ReturnType<typeof httpRequest> }

describe('a restore', () => {
  async function startRestore(restores: TestServerOptions['restores']) {
    const server = await startTestServer(restores === undefined ? {} : { restores })
    const offer: RestoreOffer = await switchGeneration(server.catalog, ['orders'])
    const process = await joinedProcess(server, 'orders')
    const path = `${new URL(process.welcome.agentUrl).pathname}/v1/restores/${offer.restore}/orders`
    return { server, process, path, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() }
  }

  test('is read back: contents, parts and channels', async () => {
    const channel = 'payments→orders'
    async function* text(what: string) {
      yield Buffer.from(what)
    }
    await using restore = await startRestore({
      contents: async () => ({ parts: ['accounts'], channels: [channel as never] }),
      readState: async (id, participant, part) => text(`${id} ${participant} ${part}`),
      readChannel: async (id, participant, from) => text(`${id} ${participant} ${from}`),
    })
    const read = async (place: string) => await (await restore.server.fetch(`${restore.path}${place}`)).text()
    expect(JSON.parse(await read(''))).toEqual({ parts: ['accounts'], channels: [channel] })
    expect(await read('/state/accounts')).toBe('restore-1 orders accounts')
    expect(await read(`/channels/${encodeURIComponent(channel)}`)).toBe('restore-1 orders payments→orders')
    const other = await restore.server.fetch(restore.path.replace('restore-1', 'restore-2'))
    expect([other.status, await other.json()]).toMatchObject([409, { code: 'restore_not_offered' }])
    const climbing = await restore.server.fetch(`${restore.path}/state/..%2Fx`)
    expect([climbing.status, await climbing.json()]).toMatchObject([400, { code: 'name_invalid' }])
  })

  test('that breaks in the middle is no whole body for its reader', async () => {
    await using restore = await startRestore({
      readState: async () =>
        (async function* () {
          yield Buffer.alloc(100_000)
          throw new Failure({ code: 'pack_damaged', message: `a pack of ${summary.id} is damaged` })
        })(),
    })
    const answer = await restore.server.fetch(`${restore.path}/state/accounts`)
    await expect(answer.arrayBuffer()).rejects.toThrow()
  })

  test('that cannot begin is told why', async () => {
    await using restore = await startRestore({
      readState: async () => {
        throw new Failure({ code: 'part_absent', message: 'no such part' })
      },
    })
    const answer = await restore.server.fetch(`${restore.path}/state/accounts`)
    expect([answer.status, await answer.json()]).toMatchObject([404, { code: 'part_absent' }])
  })
})
