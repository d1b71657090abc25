/**
 * `join`: the parts of one participant, put together. It lets them speak to each other; every rule is in one of them.
 *
 * Invariants:
 * - J1 The service never waits for Stillpoint: it serves before it has joined, and after it has lost the connection.
 * - J2 Until its first welcome a process knows no generation, so it sends nothing coloured and takes nothing coloured
 *   (C9): channel messages are buffered, and its HTTP calls are an outsider's.
 */
import http, { type Server as HttpServer } from 'node:http'
import {
  type CutRef,
  type Order,
  type ProcessFrame,
  type RecordedMessage,
  type RestoreOffer,
  type ServerFrame,
  sessionProtocolVersion,
} from '@stillpoint/core'
import { type ChannelId, channelEnds, Failure, participantName } from '@stillpoint/core/kernel'
import { type Marker, protocolShell } from './gate/protocol-shell.ts'
import { currentWork, runAs } from './gate/work-context.ts'
import { fastifyPlugin } from './http/fastify.ts'
import { httpClient } from './http/http-client.ts'
import { httpServerSide } from './http/http-server.ts'
import { wrapListener } from './http/node-handler.ts'
import { replayRequest } from './http/replay.ts'
import { requestLabel } from './http/stamp-headers.ts'
import { sessionClient } from './link/session-client.ts'
import { type JoinOptions, type Settings, settingsOf } from './options.ts'
import type { Participant, ParticipantStatus } from './participant.ts'
import { agentClient } from './state/agent-client.ts'
import { capturer } from './state/capturer.ts'
import { restorer } from './state/restorer.ts'
import { attachLinks, defaultPath } from './websocket/attach.ts'
import { inboundLinks } from './websocket/inbound-links.ts'
import { type OutboundChannel, outboundChannel } from './websocket/outbound-channel.ts'
import { receivers } from './websocket/receivers.ts'

export const sdkVersion = '0.1.0'

/**
 * Makes this process a participant, in the background: it answers at once, and the service can begin to serve.
 * @throws Failure `options_invalid`, `name_invalid`
 */
export function join(options: JoinOptions): Participant {
  const settings = settingsOf(options)
  const members = assemble(settings)
  return participantOf(settings, members)
}

type Members = ReturnType<typeof assemble>

function assemble(settings: Settings) {
  const serving = Promise.withResolvers<void>()
  // Whoever does not wait for `joined` must not be brought down by its end.
  serving.promise.catch(() => {})
  const channels = new Map<string, { readonly channel: OutboundChannel; readonly url: string }>()
  const status = { isJoined: false, isConnected: false, isClosed: false, agentUrl: '', refusal: null as Failure | null }
  const replayTarget: { current: { server: Pick<HttpServer, 'emit'>; transactional: boolean } | null } = {
    current: null,
  }
  const isJoined = (): boolean => status.isJoined

  const shell = protocolShell({
    name: settings.name,
    incarnation: settings.incarnation,
    clock: settings.clock,
    duties: {
      report: (fact) => void session.send({ type: 'fact', fact }),
      sendMarker: (stamp: Marker) => channels.get(stamp.channel)?.channel.sendMarker(stamp),
      markState: (ref: CutRef) => capture.mark(ref),
      capture: (ref: CutRef) => capture.capture(ref),
      dropMark: (ref: CutRef) => capture.drop(ref),
    },
  })
  const agent = agentClient({ settings, participant: settings.name, agentUrl: () => status.agentUrl })
  const capture = capturer({ settings, agent, shell: () => shell })
  const handlers = receivers()
  const inbound = inboundLinks({ settings, shell, receivers: handlers, isJoined })
  const client = httpClient({ settings, shell, isJoined })
  const httpSide = httpServerSide({ settings, shell, isJoined })

  function enter(generation: number, epoch: number, byRestore: boolean): void {
    const wasJoined = status.isJoined
    const isNew = generation > shell.state().generation
    if (generation < shell.state().generation) {
      settings.note(`Stillpoint says generation ${generation}, this process is in ${shell.state().generation}`)
    }
    if (byRestore || (wasJoined && isNew)) shell.disown()
    status.isJoined = true
    shell.feed({ type: 'generationEntered', generation, epoch })
    if (wasJoined && !isNew) return
    inbound.closeAll()
    client.enterGeneration()
    httpSide.enterGeneration()
    for (const { channel } of channels.values()) channel.enterGeneration(!wasJoined && !byRestore)
  }

  function replay(id: ChannelId, record: RecordedMessage): Promise<void> {
    const { label } = channelEnds(id)
    if (label === undefined) return inbound.replay(id, record)
    const target = replayTarget.current
    if (label !== requestLabel || target === null) {
      const message = `"${settings.name}" has nothing that takes the recorded messages of ${id}`
      const hint = 'Call httpHandler() or fastify() right after join, as the service that was snapshot did.'
      throw new Failure({ code: 'receiver_missing', message, hint })
    }
    const { server, transactional } = target
    return replayRequest({ settings, server: httpSide, target: server, transactional, channel: id, record })
  }

  const restore = restorer({
    settings,
    agent,
    shell: () => shell,
    enter: (offer: RestoreOffer) => enter(offer.generation, offer.epoch, true),
    replay: async (id, record) => replay(id, record),
    answer: (frame: ProcessFrame) => session.send(frame),
    served: () => serving.resolve(),
  })

  function take(frame: Exclude<ServerFrame, { type: 'refused' }>): void {
    switch (frame.type) {
      case 'welcome':
        status.isConnected = true
        status.refusal = null
        status.agentUrl = frame.agentUrl
        settings.note(`joined system "${frame.system}", generation ${frame.generation}, epoch ${frame.epoch}`)
        if (frame.restore !== null) return restore.offer(frame.restore)
        enter(frame.generation, frame.epoch, false)
        restore.notOffered()
        if (!restore.isRestoring()) serving.resolve()
        return
      case 'restore':
        return restore.offer(frame.offer)
      case 'order':
        return obey(frame.order)
    }
  }

  function obey(order: Order): void {
    if (order.type !== 'prepare' || !restore.isRestoring()) return shell.feed({ type: 'ordered', order })
    const failure = { code: 'restoring', message: `"${settings.name}" is being restored`, retry: 'later' } as const
    session.send({ type: 'fact', fact: { type: 'failed', ref: order.ref, during: 'prepare', failure } })
  }

  const session = sessionClient(settings, {
    hello: () => ({
      type: 'hello',
      version: sessionProtocolVersion,
      participant: settings.name,
      incarnation: settings.incarnation,
      generation: status.isJoined ? shell.state().generation : null,
      epoch: shell.state().epoch,
      sdkVersion,
    }),
    frame: take,
    refused: (failure) => {
      status.refusal = failure
      settings.error(failure, 'joining Stillpoint')
    },
    lost: () => {
      status.isConnected = false
      settings.note('the connection to Stillpoint is lost; this service goes on and joins again')
      shell.feed({ type: 'disconnected' })
    },
  })

  return {
    serving,
    channels,
    status,
    replayTarget,
    isJoined,
    shell,
    capture,
    handlers,
    inbound,
    client,
    httpSide,
    restore,
    session,
  }
}

function participantOf(settings: Settings, members: Members): Participant {
  const { serving, channels, status, shell, handlers, inbound, client, httpSide, restore } = members
  const closers: (() => void | Promise<void>)[] = []
  const transactionalOr = (chosen: boolean | undefined): boolean => chosen ?? settings.transactional

  return {
    name: settings.name,
    incarnation: settings.incarnation,
    joined: serving.promise,
    status: () => statusOf(members),
    run: (work, options) => runWork(members, work, transactionalOr(options?.transactional)),
    channel(peer, { url }) {
      const name = participantName(peer)
      const key = `${settings.name}→${name}`
      const known = channels.get(key)
      if (known !== undefined) return sameUrl(known, name, url)
      const channel = outboundChannel({ settings, shell, peer: name, url: checkedUrl(url), isJoined: members.isJoined })
      channels.set(key, { channel, url })
      if (status.isClosed) channel.close()
      else if (status.isJoined) channel.enterGeneration(true)
      return channel
    },
    receive(peer, handler, options) {
      handlers.add(peer, { handler, transactional: transactionalOr(options?.transactional) })
    },
    attach(server, options) {
      const detach = attachLinks({ settings, links: inbound, server, path: options?.path ?? defaultPath })
      closers.push(detach)
      return detach
    },
    async listen({ port = 0, host = '127.0.0.1' } = {}) {
      const server = http.createServer((_request, response) => response.writeHead(404).end())
      closers.push(attachLinks({ settings, links: inbound, server, path: defaultPath }))
      const listening = await listenOn(server, port, host)
      closers.push(() => closeServer(server))
      const shown = host.includes(':') ? `[${host}]` : host
      return { port: listening, url: `ws://${shown}:${listening}${defaultPath}` }
    },
    fetch: (peer, url, init) => client.fetch(peer, url, init),
    httpHandler(listener, options) {
      const transactional = transactionalOr(options?.transactional)
      const wrapped = wrapListener({ settings, server: httpSide, listener, transactional })
      members.replayTarget.current ??= { server: http.createServer(wrapped), transactional }
      return wrapped
    },
    fastify(options) {
      const transactional = transactionalOr(options?.transactional)
      const found = (server: Pick<HttpServer, 'emit'>): void => {
        members.replayTarget.current ??= { server, transactional }
      }
      return fastifyPlugin({ server: httpSide, transactional, found })
    },
    async close({ flushMs = 2_000 } = {}) {
      if (status.isClosed) return
      await flushed(settings, members, flushMs)
      status.isClosed = true
      serving.reject(new Failure({ code: 'closed', message: `the participant "${settings.name}" was closed` }))
      restore.close()
      client.close()
      for (const { channel } of channels.values()) channel.close()
      await members.session.close()
      inbound.closeAll()
      members.capture.close()
      shell.close()
      for (const close of closers) await close()
    },
  }
}

function statusOf({ status, restore, shell }: Members): ParticipantStatus {
  const { isConnected, refusal } = status
  const { generation, epoch } = shell.state()
  const serving = status.isJoined ? 'serving' : 'joining'
  const phase = status.isClosed ? 'closed' : restore.isRestoring() ? 'restoring' : serving
  return { phase, isConnected, generation, epoch, refusal }
}

function runWork<T>({ shell }: Members, body: () => T | Promise<T>, transactional: boolean): Promise<T> {
  // Part of the running work: waiting for the gate here would make it wait for itself.
  if (currentWork() !== null) return Promise.resolve().then(body)
  return new Promise<T>((resolve, reject) => {
    shell.arrive({
      origin: { kind: 'process', transactional },
      refuse: () => reject(new Failure({ code: 'closed', message: 'the work was refused' })),
      deliver: (work) => {
        const running = runAs(work, async () => body())
        running.then(resolve, reject).finally(() => shell.end(work))
      },
    })
  })
}

function sameUrl(
  known: { readonly channel: OutboundChannel; readonly url: string },
  peer: string,
  url: string,
): OutboundChannel {
  if (known.url === url) return known.channel
  const message = `the channel to "${peer}" goes to ${known.url} already, not to ${url}`
  throw new Failure({ code: 'options_invalid', message })
}

function checkedUrl(url: string): string {
  if (URL.canParse(url) && ['ws:', 'wss:'].includes(new URL(url).protocol)) return url
  const message = `${JSON.stringify(url)} is not a ws or wss URL`
  throw new Failure({ code: 'options_invalid', message, hint: 'It is the "url" that the peer\'s listen() answers.' })
}

async function flushed(settings: Settings, { channels, shell, isJoined }: Members, flushMs: number): Promise<void> {
  const idle = new Promise<void>((resolve) => shell.onIdle(resolve))
  const done = idle.then(() =>
    isJoined() ? Promise.all([...channels.values()].map(({ channel }) => channel.flushed())) : [],
  )
  await new Promise<void>((resolve) => {
    const cancel = settings.clock.after(flushMs, resolve)
    void done.then(() => {
      cancel()
      resolve()
    })
  })
}

function listenOn(server: HttpServer, port: number, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      reject(
        new Failure({ code: 'listen_failed', message: `cannot listen on ${host}:${port}: ${cause.message}`, cause }),
      )
    })
    server.listen(port, host, () => {
      const address = server.address()
      if (typeof address === 'object' && address !== null) resolve(address.port)
      else reject(new Failure({ code: 'listen_failed', message: `${host}:${port} is no TCP address` }))
    })
  })
}

function closeServer(server: HttpServer): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
