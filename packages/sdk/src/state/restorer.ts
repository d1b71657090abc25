/**
 * A restore, seen from one process: stop, enter the new generation, put the state back, hand over what was in flight,
 * answer `restored`, go on.
 *
 * Owns: the order of these steps and their repetition. At least once: the offer ends only when `restored` has been sent.
 * A process that dies before that is offered the same restore again, restores the same state again and is handed the
 * same messages again, in the same order.
 *
 * Invariants:
 * - R1 From the offer until `restored`, nothing runs but the replays (shell.park, H3).
 * - R2 All messages of one channel are handed over in their order, each after the one before it has been handled.
 */
import {
  type ProcessFrame,
  parseFrame,
  type RecordedMessage,
  type RestoreOffer,
  readRecordedMessage,
} from '@stillpoint/core'
import { type ChannelId, describeFailure, Failure, isFailure } from '@stillpoint/core/kernel'
import { exponentialBackoff } from '../backoff.ts'
import { sleep } from '../clock.ts'
import type { ProtocolShell } from '../gate/protocol-shell.ts'
import type { JsonValue } from '../message.ts'
import type { Settings } from '../options.ts'
import type { AgentClient } from './agent-client.ts'
import { jsonPartName, type RestoredPart, type RestoredState } from './hooks.ts'

export interface Restorer {
  /** From a welcome or a `restore` frame. The same offer again continues, or answers again. */
  readonly offer: (offer: RestoreOffer) => void
  /** A restore is going on, or has failed and waits for the next offer: nothing is served. */
  readonly isRestoring: () => boolean
  /** A welcome without an offer: the server knows that the last one is done, or has called it off. */
  readonly notOffered: () => void
  readonly close: () => void
}

type Phase =
  | { readonly kind: 'idle' }
  | { readonly kind: 'restoring'; readonly offer: RestoreOffer; readonly stopped: AbortController }
  | { readonly kind: 'failed' }
  /** Restored, and the server could not be told yet. */
  | { readonly kind: 'unanswered'; readonly offer: RestoreOffer }

export function restorer(options: {
  readonly settings: Settings
  readonly agent: AgentClient
  readonly shell: () => ProtocolShell
  /** Enters the offer's generation: counts, sessions and buffers of the old one end. */
  readonly enter: (offer: RestoreOffer) => void
  /** Hands one message over; resolves when it has been handled. @throws Failure where nobody receives that channel */
  readonly replay: (channel: ChannelId, message: RecordedMessage) => Promise<void>
  readonly answer: (frame: ProcessFrame) => boolean
  /** The process serves again. */
  readonly served: () => void
}): Restorer {
  const { settings, agent, shell, enter, replay, answer, served } = options
  let phase: Phase = { kind: 'idle' }
  let lastRestored: string | null = null

  async function run(offer: RestoreOffer, stopped: AbortController): Promise<void> {
    const { signal } = stopped
    try {
      await handlersEnded(offer)
      signal.throwIfAborted()
      const contents = await agent.contents(offer.restore, signal)
      await restoreState(offer, contents.parts, signal)
      await Promise.all(contents.channels.map((channel) => replayChannel(offer, channel, signal)))
      signal.throwIfAborted()
    } catch (error) {
      if (signal.aborted) return // Another offer, or the end, has taken over.
      settings.error(error, `restore ${offer.restore}`)
      phase = { kind: 'failed' }
      answer({ type: 'restoreFailed', restore: offer.restore, failure: describeFailure(error) })
      return
    }
    phase = { kind: 'unanswered', offer }
    conclude(offer)
  }

  /** Serving may begin only when the server knows, or a crash would restore over what was served since. */
  function conclude(offer: RestoreOffer): void {
    if (!answer({ type: 'restored', restore: offer.restore })) return
    phase = { kind: 'idle' }
    lastRestored = offer.restore
    settings.note(`restored from snapshot ${offer.snapshot}, generation ${offer.generation}`)
    shell().unpark()
    served()
  }

  async function handlersEnded(offer: RestoreOffer): Promise<void> {
    const ended = new Promise<boolean>((resolve) => {
      const cancel = settings.clock.after(settings.restoreHandlersMs, () => resolve(false))
      shell().onIdle(() => {
        cancel()
        resolve(true)
      })
    })
    if (await ended) return
    // Going on would let them write into the restored state.
    const message = `${shell().running()} handlers of "${settings.name}" did not end for restore ${offer.restore}`
    const hint = 'Restart the service: it restores before it serves. Or raise "restoreHandlersMs".'
    throw new Failure({ code: 'restore_handlers_running', message, hint, retry: 'later' })
  }

  async function restoreState(offer: RestoreOffer, names: readonly string[], signal: AbortSignal): Promise<void> {
    if (names.length === 0) return
    if (settings.state === null) {
      const message = `the snapshot holds state of "${settings.name}", and it has no "restore"`
      throw new Failure({ code: 'restore_hook_missing', message, hint: 'Give `join` the option "state".' })
    }
    const parts = new Map<string, RestoredPart>()
    for (const part of names) {
      const stream = (): AsyncIterable<Uint8Array> => agent.part({ restore: offer.restore, part }, signal)
      parts.set(part, { stream, bytes: () => bytesOf(stream()) })
    }
    const jsonPart = parts.get(jsonPartName)
    const value = jsonPart === undefined ? undefined : jsonOf(await jsonPart.bytes())
    const state: RestoredState = { value, parts }
    await settings.state.restore(state)
  }

  /** A broken download goes on behind the last message that was handed over. */
  async function replayChannel(offer: RestoreOffer, channel: ChannelId, signal: AbortSignal): Promise<void> {
    const backoff = exponentialBackoff({ firstMs: 100, lastMs: 5_000, random: settings.random })
    let handed = 0
    for (;;) {
      try {
        let index = 0
        for await (const line of linesOf(agent.channel({ restore: offer.restore, channel }, signal))) {
          signal.throwIfAborted()
          index += 1
          if (index <= handed) continue
          const record = parseFrame(line, readRecordedMessage, `message ${index} of ${channel}`)
          handed = index
          if (record.kind !== 'reply') await handledInTime(replay(channel, record), channel, record)
        }
        return
      } catch (error) {
        if (signal.aborted || !isFailure(error, 'agent_unreachable')) throw error
        settings.note(`${error.message}; trying again`)
      }
      await sleep(settings.clock, backoff.next(), signal)
    }
  }

  /** Handlers of several services may wait for each other's restore: none of them waits for ever. */
  function handledInTime(handled: Promise<void>, channel: ChannelId, { message }: RecordedMessage): Promise<void> {
    return new Promise((resolve, reject) => {
      const cancel = settings.clock.after(settings.replayHandlerMs, () => {
        settings.note(`the replay of message ${message} on ${channel} takes long: the restore goes on without its end`)
        resolve()
      })
      handled.then(resolve, reject).finally(cancel)
    })
  }

  return {
    offer(offer) {
      if (phase.kind === 'restoring' && phase.offer.restore === offer.restore) return
      if (phase.kind === 'unanswered' && phase.offer.restore === offer.restore) return conclude(offer)
      if (phase.kind === 'idle' && lastRestored === offer.restore) {
        answer({ type: 'restored', restore: offer.restore })
        return
      }
      const replaced = phase.kind === 'restoring' ? phase.stopped : null
      replaced?.abort(new Failure({ code: 'restore_replaced', message: `restore ${offer.restore} takes over` }))
      const stopped = new AbortController()
      phase = { kind: 'restoring', offer, stopped }
      settings.note(`restore ${offer.restore} of snapshot ${offer.snapshot} begins`)
      shell().park()
      enter(offer)
      void run(offer, stopped)
    },
    notOffered() {
      if (phase.kind === 'unanswered') conclude(phase.offer)
      if (phase.kind !== 'failed') return
      const message = `"${settings.name}" could not be restored, and no restore is offered any more: it serves nothing`
      const hint = 'Restart the service to go on without the restore, or restore again.'
      settings.error(new Failure({ code: 'restore_called_off', message, hint }), 'restore')
    },
    isRestoring: () => phase.kind !== 'idle',
    close() {
      if (phase.kind === 'restoring') {
        phase.stopped.abort(new Failure({ code: 'closed', message: 'the participant was closed' }))
      }
    },
  }
}

async function bytesOf(stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks)
}

function jsonOf(bytes: Uint8Array): JsonValue {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw new Failure({ code: 'state_invalid', message: `the captured ${jsonPartName} is not JSON`, cause })
  }
}

const lineBytesMax = 256 * 1024 * 1024

/** The lines of a stream, without their ends. */
export async function* linesOf(stream: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  let rest: Uint8Array[] = []
  let restBytes = 0
  for await (const chunk of stream) {
    let start = 0
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      yield Buffer.concat([...rest, chunk.subarray(start, end)]).toString('utf8')
      rest = []
      restBytes = 0
      start = end + 1
    }
    if (start < chunk.length) rest.push(chunk.subarray(start))
    restBytes += chunk.length - start
    if (restBytes > lineBytesMax) {
      throw new Failure({ code: 'frame_invalid', message: `a recorded message is longer than ${lineBytesMax} bytes` })
    }
  }
  if (restBytes > 0) yield Buffer.concat(rest).toString('utf8')
}
