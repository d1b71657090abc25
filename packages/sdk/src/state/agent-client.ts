/**
 * Bulk data to and from the agent, by HTTP (core/session/frames.ts documents the routes). Bearer token, streaming.
 *
 * Owns: requests, and repeating them after transient errors until the signal ends it. Every request is safe to repeat:
 * a part that is put again replaces the one before it.
 */

import type { CaptureEvidence, RestoreContents } from '@stillpoint/core'
import { parseFrame, readCaptureEvidence, readRestoreContents } from '@stillpoint/core'
import { type ChannelId, Failure, isFailure, type ParticipantName } from '@stillpoint/core/kernel'
import { exponentialBackoff } from '../backoff.ts'
import { sleep } from '../clock.ts'
import { failureIn } from '../link/refusal.ts'
import type { Settings } from '../options.ts'

export type Body = () => AsyncIterable<Uint8Array>

export interface AgentClient {
  putPart(target: { readonly cut: string; readonly part: string }, body: Body, signal: AbortSignal): Promise<void>
  putChannel(
    target: { readonly cut: string; readonly channel: ChannelId },
    body: Body,
    signal: AbortSignal,
  ): Promise<void>
  finish(cut: string, signal: AbortSignal): Promise<CaptureEvidence>
  contents(restore: string, signal: AbortSignal): Promise<RestoreContents>
  part(target: { readonly restore: string; readonly part: string }, signal: AbortSignal): AsyncIterable<Uint8Array>
  channel(
    target: { readonly restore: string; readonly channel: ChannelId },
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array>
}

const answerBytesMax = 64 * 1024 * 1024

export function agentClient(options: {
  readonly settings: Settings
  readonly participant: ParticipantName
  /** Where the agent is now: another server may have taken over since. */
  readonly agentUrl: () => string
}): AgentClient {
  const { settings, participant, agentUrl } = options

  function urlOf(...path: readonly string[]): string {
    const base = agentUrl()
    const joined = path.map((segment) => encodeURIComponent(segment)).join('/')
    return `${base.endsWith('/') ? base.slice(0, -1) : base}/v1/${joined}`
  }

  async function request(path: readonly string[], init: RequestInit, what: string): Promise<Response> {
    const authorization = `Bearer ${await settings.readToken()}`
    let response: Response
    try {
      response = await fetch(urlOf(...path), {
        ...init,
        headers: { ...init.headers, authorization },
        redirect: 'error',
      })
    } catch (cause) {
      if (init.signal?.aborted === true) throw init.signal.reason
      const message = `${what}: the agent at ${agentUrl()} cannot be reached`
      throw new Failure({ code: 'agent_unreachable', message, retry: 'later', cause })
    }
    if (response.ok) return response
    throw refusalOf(response.status, await response.text(), what)
  }

  /** Again and again while the failure may pass; a capture that nobody wants any more is ended by its signal. */
  async function repeated<T>(attempt: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const backoff = exponentialBackoff({ firstMs: 100, lastMs: 5_000, random: settings.random })
    for (;;) {
      signal.throwIfAborted()
      try {
        return await attempt()
      } catch (error) {
        if (signal.aborted || !(isFailure(error) && error.retry === 'later')) throw error
        settings.note(`${error.message}; trying again`)
      }
      await sleep(settings.clock, backoff.next(), signal)
    }
  }

  async function put(path: readonly string[], body: Body, signal: AbortSignal): Promise<void> {
    const what = `upload of ${path.slice(2).join('/')}`
    await repeated(async () => {
      let thrown: { readonly error: unknown } | null = null
      async function* watched(): AsyncGenerator<Uint8Array> {
        try {
          yield* body()
        } catch (error) {
          // The application's own failure must not be taken for the network's.
          thrown = { error }
          throw error
        }
      }
      const stream = ReadableStream.from<Uint8Array>(watched())
      try {
        const response = await request(path, { method: 'PUT', body: stream, duplex: 'half', signal }, what)
        await response.body?.cancel()
      } catch (error) {
        const found: { readonly error: unknown } | null = thrown
        throw found === null ? error : stateFailed(what, found)
      }
    }, signal)
  }

  async function get(path: readonly string[], signal: AbortSignal): Promise<Response> {
    return repeated(() => request(path, { method: 'GET', signal }, path.join('/')), signal)
  }

  async function* stream(path: readonly string[], signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const response = await get(path, signal)
    try {
      if (response.body !== null) yield* response.body
    } catch (cause) {
      if (signal.aborted) throw signal.reason
      const message = `${path.join('/')}: the agent broke off its answer`
      throw new Failure({ code: 'agent_unreachable', message, retry: 'later', cause })
    }
  }

  return {
    putPart: ({ cut, part }, body, signal) => put(['captures', cut, participant, 'state', part], body, signal),
    putChannel: ({ cut, channel }, body, signal) =>
      put(['captures', cut, participant, 'channels', channel], body, signal),
    finish: (cut, signal) =>
      repeated(async () => {
        const path = ['captures', cut, participant, 'finish']
        const response = await request(path, { method: 'POST', signal }, 'end of the capture')
        return parseFrame(await textOf(response), readCaptureEvidence, "the agent's evidence")
      }, signal),
    contents: (restore, signal) =>
      repeated(async () => {
        const response = await request(['restores', restore, participant], { signal }, 'contents of the restore')
        return parseFrame(await textOf(response), readRestoreContents, 'contents of the restore')
      }, signal),
    part: ({ restore, part }, signal) => stream(['restores', restore, participant, 'state', part], signal),
    channel: ({ restore, channel }, signal) => stream(['restores', restore, participant, 'channels', channel], signal),
  }
}

/** The agent's own failure, where its answer holds one. */
function refusalOf(status: number, body: string, what: string): Failure {
  const isTransient = status >= 500 || status === 429 || status === 408
  const said = failureIn(body)
  if (said === null) {
    const message = `${what}: the agent answers HTTP ${status} ${body.slice(0, 500)}`
    return new Failure({ code: 'agent_refused', message, retry: isTransient ? 'later' : 'never' })
  }
  const { hint, retry } = said
  const message = `${what}: ${said.message}`
  return new Failure({
    code: said.code,
    message,
    retry: isTransient ? 'later' : retry,
    ...(hint === undefined ? {} : { hint }),
  })
}

function stateFailed(what: string, { error }: { readonly error: unknown }): Failure {
  const message = `${what}: the state could not be read: ${error instanceof Error ? error.message : String(error)}`
  return new Failure({ code: 'state_unreadable', message, cause: error })
}

async function textOf(response: Response): Promise<string> {
  const text = await response.text()
  if (text.length > answerBytesMax)
    throw new Failure({ code: 'frame_invalid', message: "the agent's answer is too long" })
  return text
}
