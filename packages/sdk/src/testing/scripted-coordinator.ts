/**
 * A coordinator and its agent as a script, over real sockets, for tests of the SDK: it welcomes processes, plays the
 * orders of a cut one after the other, keeps what is uploaded in memory, and serves it back at a restore.
 * It decides nothing; the real one is in stillpoint/coordinator.
 */
import { createHash } from 'node:crypto'
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import {
  type CutRef,
  type Drained,
  type Fact,
  type Order,
  type ProcessFrame,
  type ProcessMark,
  parseFrame,
  type RecordedMessage,
  type RestoreOffer,
  readProcessFrame,
  readRecordedMessage,
  type SentAtCut,
  type ServerFrame,
} from '@stillpoint/core'
import type { CutId, Incarnation, ParticipantName, TreeId } from '@stillpoint/core/kernel'
import { type WebSocket, WebSocketServer } from 'ws'

export const testToken = 'a-token-for-tests'

/** Only a hang takes as long, on however busy a machine. What is to run out says how soon. */
const patienceMs = 30_000

export interface CutResult {
  readonly ref: CutRef
  readonly marks: ReadonlyMap<string, ProcessMark>
  readonly drained: ReadonlyMap<string, readonly Drained[]>
  /** Of each participant: `state/…` and `channels/…` as uploaded. */
  readonly uploads: ReadonlyMap<string, ReadonlyMap<string, Buffer>>
}

interface Connected {
  readonly socket: WebSocket
  readonly incarnation: Incarnation
}

export interface ScriptedCoordinator {
  readonly url: string
  readonly facts: { readonly from: string; readonly fact: Fact }[]
  readonly frames: { readonly from: string; readonly frame: ProcessFrame }[]
  readonly connected: ReadonlyMap<string, Connected>
  /** The uploads of every cut, by `cut/participant`. */
  readonly uploads: ReadonlyMap<string, ReadonlyMap<string, Buffer>>
  /** How many of the next agent requests fail with status 503. */
  failures: number
  generation: number
  epoch: number
  /** The restore that is in the welcome of whoever has not been through it. */
  offer: RestoreOffer | null
  newRef(): CutRef
  order(to: string, order: Order): void
  /** The next fact of this type of this cut, or the one that has come already. @throws when the participant reports a failure */
  fact<T extends Fact['type']>(from: string, type: T, ref: CutRef): Promise<Extract<Fact, { type: T }>>
  until(condition: () => boolean, what: string): Promise<void>
  cut(names: readonly string[], options?: CutOptions): Promise<CutResult>
  /** Puts a snapshot up for a restore: what each participant would read. */
  stage(restore: string, result: CutResult): void
  restoreAll(names: readonly string[], offer: RestoreOffer): void
  close(): Promise<void>
}

export interface CutOptions {
  readonly gated?: boolean
  readonly handlerMs?: number
  readonly leaseMs?: number
  readonly drainMs?: number
  /** Called between two steps. */
  readonly before?: (step: Order['type'], ref: CutRef) => Promise<void> | void
  /** Only these are ordered to mark; the others enter by what reaches them. */
  readonly markOnly?: readonly string[]
}

export async function scriptedCoordinator(
  options: { readonly port?: number; readonly generation?: number; readonly epoch?: number } = {},
): Promise<ScriptedCoordinator> {
  const facts: { from: string; fact: Fact }[] = []
  const frames: { from: string; frame: ProcessFrame }[] = []
  const connected = new Map<string, Connected>()
  const uploads = new Map<string, Map<string, Buffer>>()
  const staged = new Map<string, ReadonlyMap<string, Buffer>>()
  const waiters = new Set<() => void>()
  const sockets = new Set<WebSocket>()
  let cuts = 0
  const wake = (): void => {
    for (const waiter of [...waiters]) waiter()
  }

  const server = http.createServer((request, response) => {
    serve(request, response).catch((error) => response.writeHead(500).end(String(error)))
  })
  const upgrader = new WebSocketServer({ noServer: true })
  server.on('upgrade', (request, socket, head) => {
    if (request.headers.authorization !== `Bearer ${testToken}` || request.url !== '/v1/session') {
      socket.end('HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n')
      return
    }
    upgrader.handleUpgrade(request, socket, head, (accepted) => talk(accepted))
  })
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, '127.0.0.1', resolve))
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('no address')
  const url = `http://127.0.0.1:${address.port}`

  function talk(socket: WebSocket): void {
    let name = ''
    sockets.add(socket)
    socket.on('message', (data) => {
      const frame = parseFrame(data.toString(), readProcessFrame, 'frame')
      if (frame.type === 'hello') {
        name = frame.participant
        connected.set(name, { socket, incarnation: frame.incarnation })
        const restore = self.offer
        say(socket, {
          type: 'welcome',
          system: 'test',
          generation: self.generation,
          epoch: self.epoch,
          agentUrl: url,
          restore,
        })
      } else if (frame.type === 'fact') facts.push({ from: name, fact: frame.fact })
      frames.push({ from: name, frame })
      wake()
    })
    socket.on('close', () => {
      sockets.delete(socket)
      if (connected.get(name)?.socket === socket) connected.delete(name)
      wake()
    })
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.headers.authorization !== `Bearer ${testToken}`) return void response.writeHead(401).end()
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(Buffer.from(chunk))
    if (self.failures > 0) {
      self.failures -= 1
      return void response.writeHead(503).end('try later')
    }
    const [, , kind = '', id = '', participant = '', ...rest] = (request.url ?? '').split('/').map(decodeURIComponent)
    const path = rest.join('/')
    const key = `${id}/${participant}`
    if (kind === 'captures') {
      const files = uploads.get(key) ?? new Map<string, Buffer>()
      uploads.set(key, files)
      if (request.method === 'PUT') {
        files.set(path, Buffer.concat(chunks))
        return void response.writeHead(204).end()
      }
      return json(response, evidenceOf(files))
    }
    const files = staged.get(key) ?? new Map<string, Buffer>()
    if (path === '') {
      const under = (folder: string): string[] =>
        [...files.keys()].filter((file) => file.startsWith(folder)).map((file) => file.slice(folder.length))
      return json(response, { parts: under('state/'), channels: under('channels/') })
    }
    const file = files.get(path)
    if (file === undefined) return void response.writeHead(404).end()
    response.writeHead(200).end(file)
  }

  function until(condition: () => boolean, what: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        waiters.delete(check)
        reject(new Error(`waited too long for ${what}`))
      }, patienceMs)
      const poll = setInterval(() => check(), 5)
      const check = (): void => {
        if (!condition()) return
        clearTimeout(timer)
        clearInterval(poll)
        waiters.delete(check)
        resolve()
      }
      waiters.add(check)
      check()
    })
  }

  async function fact<T extends Fact['type']>(from: string, type: T, ref: CutRef): Promise<Extract<Fact, { type: T }>> {
    const isIt = (one: Fact): one is Extract<Fact, { type: T }> => one.type === type
    const find = (): Fact | undefined =>
      facts.find(
        (one) => one.from === from && one.fact.ref.cut === ref.cut && (isIt(one.fact) || one.fact.type === 'failed'),
      )?.fact
    await until(() => find() !== undefined, `"${type}" of ${from}`)
    const found = find()
    if (found === undefined || !isIt(found)) throw new Error(`${from} failed: ${JSON.stringify(found)}`)
    return found
  }

  function order(to: string, given: Order): void {
    const target = connected.get(to)
    if (target === undefined) throw new Error(`${to} is not connected`)
    say(target.socket, { type: 'order', order: given })
  }

  async function cut(names: readonly string[], chosen: CutOptions = {}): Promise<CutResult> {
    const { gated = false, handlerMs = patienceMs, leaseMs = patienceMs, drainMs = patienceMs } = chosen
    const { before, markOnly } = chosen
    const ref = self.newRef()
    const all = async <T>(step: (name: string) => Promise<T>): Promise<ReadonlyMap<string, T>> => {
      const results = await Promise.all(names.map(async (name) => [name, await step(name)] as const))
      return new Map(results)
    }
    await before?.('prepare', ref)
    await all((name) => {
      const incarnation = connected.get(name)?.incarnation ?? ('?' as Incarnation)
      order(name, { type: 'prepare', ref, role: { kind: 'process', incarnation, gated, owns: [], handlerMs, leaseMs } })
      return fact(name, 'ready', ref)
    })
    await before?.('quiesce', ref)
    for (const stage of gated ? (['ingress', 'gate'] as const) : (['ingress'] as const)) {
      await all(async (name) => {
        order(name, { type: 'quiesce', ref, stage, leaseMs })
        await until(
          () =>
            facts.some(
              ({ from, fact }) =>
                from === name && fact.type === 'held' && fact.stage === stage && fact.ref.cut === ref.cut,
            ),
          `${name} held at ${stage}`,
        )
      })
    }
    await before?.('mark', ref)
    for (const name of names) if (markOnly === undefined || markOnly.includes(name)) order(name, { type: 'mark', ref })
    const marked = await all((name) => fact(name, 'marked', ref))
    const marks = new Map([...marked].map(([name, { evidence }]) => [name, processMark(evidence)]))
    await before?.('resume', ref)
    await all((name) => {
      order(name, { type: 'resume', ref })
      return fact(name, 'resumed', ref)
    })
    await before?.('drain', ref)
    const sent: SentAtCut[] = [...marks.values()].flatMap((mark) => mark.sent)
    const drains = await all((name) => {
      const inbound = sent.filter(({ channel }) => channel.split('#')[0]?.endsWith(`→${name}`))
      order(name, { type: 'drain', ref, inbound, deadlineMs: drainMs })
      return fact(name, 'drained', ref)
    })
    await before?.('capture', ref)
    await all((name) => {
      order(name, { type: 'capture', ref })
      return fact(name, 'captured', ref)
    })
    await before?.('release', ref)
    await all((name) => {
      order(name, { type: 'release', ref, outcome: 'sealed' })
      return fact(name, 'released', ref)
    })
    return {
      ref,
      marks,
      drained: new Map([...drains].map(([name, { inbound }]) => [name, inbound])),
      uploads: new Map(names.map((name) => [name, uploads.get(`${ref.cut}/${name}`) ?? new Map()])),
    }
  }

  const self: ScriptedCoordinator = {
    url,
    facts,
    frames,
    connected,
    uploads,
    failures: 0,
    generation: options.generation ?? 1,
    epoch: options.epoch ?? 0,
    offer: null,
    newRef() {
      cuts += 1
      self.epoch += 1
      return { cut: `cut-${cuts}` as CutId, epoch: self.epoch, generation: self.generation, fencing: 1 }
    },
    order,
    fact,
    until,
    cut,
    stage(restore, { uploads }) {
      for (const [name, files] of uploads) staged.set(`${restore}/${name}`, files)
    },
    restoreAll(names, offer) {
      self.offer = offer
      self.generation = offer.generation
      self.epoch = offer.epoch
      for (const name of names) {
        const target = connected.get(name)
        if (target !== undefined) say(target.socket, { type: 'restore', offer })
      }
    },
    async close() {
      for (const socket of sockets) socket.terminate()
      await new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
    },
  }
  return self
}

function say(socket: WebSocket, frame: ServerFrame): void {
  socket.send(JSON.stringify(frame))
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value))
}

function processMark(evidence: ProcessMark | { readonly kind: 'store' }): ProcessMark {
  if (evidence.kind !== 'process') throw new Error('a process reported the mark of a store')
  return evidence
}

function evidenceOf(files: ReadonlyMap<string, Buffer>): unknown {
  const tree = (bytes: Uint8Array): TreeId => createHash('sha256').update(bytes).digest('hex') as TreeId
  const channels: Record<string, TreeId> = {}
  for (const [file, bytes] of files) {
    if (file.startsWith('channels/')) channels[file.slice('channels/'.length)] = tree(bytes)
  }
  const all = [...files.values()]
  return {
    tree: tree(Buffer.concat(all)),
    bytes: all.reduce((sum, bytes) => sum + bytes.length, 0),
    files: files.size,
    torn: [],
    notes: [],
    channels,
  }
}

/** The recorded messages of one inbound channel. */
export function recordedOf(result: CutResult, name: string, channel: string): readonly RecordedMessage[] {
  const file = result.uploads.get(name)?.get(`channels/${channel}`)
  if (file === undefined) return []
  const lines = file
    .toString('utf8')
    .split('\n')
    .filter((line) => line !== '')
  return lines.map((line) => parseFrame(line, readRecordedMessage, 'line'))
}

export function stateOf(result: CutResult, name: string): unknown {
  const file = result.uploads.get(name)?.get('state/state.json')
  return file === undefined ? undefined : JSON.parse(file.toString('utf8'))
}

export function participantNames(...names: readonly string[]): readonly ParticipantName[] {
  return names as readonly ParticipantName[]
}
