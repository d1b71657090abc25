/** What `join` answers: one process of a system, as its application sees it. */
import type { Server as HttpServer, IncomingMessage, ServerResponse } from 'node:http'
import type { Server as HttpsServer } from 'node:https'
import type { Failure, Incarnation, ParticipantName } from '@stillpoint/core/kernel'
import type { FastifyPluginLike } from './http/fastify.ts'
import type { HttpHandlerOptions, HttpListener } from './http/node-handler.ts'
import type { Channel } from './websocket/outbound-channel.ts'
import type { MessageHandler } from './websocket/receivers.ts'

export interface Participant {
  readonly name: ParticipantName
  /** One life of this process: another one after every restart. */
  readonly incarnation: Incarnation
  /**
   * Resolves when this process takes part: welcomed by Stillpoint and, where a restore was waiting for it, restored.
   * The service need not wait for it. Rejects only when the participant is closed before.
   */
  readonly joined: Promise<void>
  status(): ParticipantStatus

  /**
   * Runs work that this process begins by itself: a timer, a job, a start-up step. It waits while a gate is closed.
   * Within a handler or another `run` it is part of that work and begins at once. Answers and throws what `work` does.
   */
  run<T>(work: () => T | Promise<T>, options?: WorkOptions): Promise<T>

  /**
   * The channel to another process, in order and reliable while both live. The same object for the same peer.
   * @param options.url where the peer listens: `ws://host:port/stillpoint/channels`
   * @throws Failure `name_invalid`, `options_invalid` (another URL for the same peer)
   */
  channel(peer: string, options: { readonly url: string }): Channel
  /**
   * Handles the messages of one peer, or of all others (`*`); one after the other per peer. Register right after `join`.
   * An error that a handler throws is reported through `onError`, and the message counts as handled.
   */
  receive(peer: string, handler: MessageHandler, options?: WorkOptions): void
  /** Lets peers connect through an HTTP server of the application. Answers a function that ends it. */
  attach(server: HttpServer | HttpsServer, options?: { readonly path?: string }): () => void
  /** Lets peers connect through a server of its own, which `close` stops. Default: a free port on 127.0.0.1. */
  listen(options?: { readonly port?: number; readonly host?: string }): Promise<Listening>

  /** `fetch` to another process, with its place in the cut. See README: what happens when a call fails. */
  fetch(peer: string, url: string | URL, init?: RequestInit): Promise<Response>
  /** Puts the gate in front of a `node:http` listener. One per process: replays go to the first one. */
  httpHandler(
    listener: HttpListener,
    options?: HttpHandlerOptions,
  ): (request: IncomingMessage, response: ServerResponse) => void
  /** The same as a plugin: `app.register(participant.fastify())`. */
  fastify(options?: HttpHandlerOptions): FastifyPluginLike

  /**
   * Leaves. Waits up to `flushMs` (default 2,000 ms) for running work to end and for peers to have handled what was
   * sent, then closes every connection and server of its own. Buffered messages that are left are lost, as in a crash.
   */
  close(options?: { readonly flushMs?: number }): Promise<void>
}

export interface WorkOptions {
  /** Doing the work again after a restore is exact. Default: the option of `join`. */
  readonly transactional?: boolean
}

export interface Listening {
  readonly port: number
  /** For the `url` of the peers' `channel`. */
  readonly url: string
}

export interface ParticipantStatus {
  /** `serving`: connected or not, this process has been welcomed once and no restore is under way. */
  readonly phase: 'joining' | 'restoring' | 'serving' | 'closed'
  readonly isConnected: boolean
  readonly generation: number
  readonly epoch: number
  /** Why Stillpoint did not let this process in, the last time that it did not. */
  readonly refusal: Failure | null
}
