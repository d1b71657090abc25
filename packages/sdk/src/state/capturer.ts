/**
 * The mark of the application's own state, and its way to the agent.
 *
 * Owns: the handles that `capture` answered, one per cut, from the mark until the cut is over. Each is released exactly
 * once, also where the mark comes too late or the upload fails. Does not own: when (the state machine decides).
 */
import type { CaptureEvidence, CutRef, RecordedMessage } from '@stillpoint/core'
import { type ChannelId, describeFailure, Failure } from '@stillpoint/core/kernel'
import type { ProtocolShell, RecordedEntry } from '../gate/protocol-shell.ts'
import type { Settings } from '../options.ts'
import type { AgentClient } from './agent-client.ts'
import { isStateParts, jsonPartName, type StatePart } from './hooks.ts'

export interface Capturer {
  readonly mark: (ref: CutRef) => void
  readonly capture: (ref: CutRef) => void
  readonly drop: (ref: CutRef) => void
  readonly close: () => void
}

interface Marked {
  readonly parts: ReadonlyMap<string, StatePart>
  readonly release: () => void | Promise<void>
}

interface Handle {
  readonly ended: AbortController
  marked: Marked | null
}

/** Progress is for people: thousands of small parts must not flood the session. */
const progressMs = 250

const partNamePattern = /^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$/i

export function capturer(options: {
  readonly settings: Settings
  readonly agent: AgentClient
  readonly shell: () => ProtocolShell
}): Capturer {
  const { settings, agent, shell } = options
  const handles = new Map<string, Handle>()

  async function takeMark(ref: CutRef, handle: Handle): Promise<void> {
    try {
      const marked = await markedState()
      if (handle.ended.signal.aborted) return release(marked)
      handle.marked = marked
      shell().feed({ type: 'stateMarked', ref })
    } catch (error) {
      settings.error(error, 'capture of the state')
      const reason = describeFailure(error)
      const message = `the state of "${settings.name}" could not be captured: ${reason.message}`
      shell().feed({ type: 'stateMarkFailed', ref, failure: { code: 'state_capture_failed', message, retry: 'later' } })
    }
  }

  async function markedState(): Promise<Marked> {
    if (settings.state === null) return { parts: new Map(), release: () => {} }
    const captured = await settings.state.capture()
    if (!isStateParts(captured)) return jsonMark(captured)
    for (const [name, part] of Object.entries(captured.parts)) {
      const isPart = part instanceof Uint8Array || typeof part === 'function'
      if (!isPart || !partNamePattern.test(name) || name.includes('..') || name === jsonPartName) {
        await captured.release?.()
        const hint = `Name parts with letters, digits, ".", "_", "-", not "${jsonPartName}"; give bytes or a function.`
        throw new Failure({ code: 'state_invalid', message: `${JSON.stringify(name)} is not a part of a state`, hint })
      }
    }
    return { parts: new Map(Object.entries(captured.parts)), release: () => captured.release?.() }
  }

  async function release({ release }: Marked): Promise<void> {
    try {
      await release()
    } catch (error) {
      settings.error(error, 'release of a captured state')
    }
  }

  async function upload(ref: CutRef, handle: Handle, marked: Marked): Promise<CaptureEvidence> {
    const { signal } = handle.ended
    const { cut } = ref
    const sent = { bytes: 0, files: 0 }
    let toldMs = Number.NEGATIVE_INFINITY
    for (const [part, content] of marked.parts) {
      await agent.putPart({ cut, part }, () => counted(bodyOf(content), sent), signal)
      sent.files += 1
      const nowMs = settings.clock.monotonicMs()
      if (nowMs - toldMs < progressMs && sent.files < marked.parts.size) continue
      toldMs = nowMs
      shell().feed({ type: 'captureProgressed', ref, ...sent })
    }
    for (const [channel, entries] of byChannel(shell().recorded(ref))) {
      await agent.putChannel({ cut, channel }, () => linesOf(entries), signal)
    }
    return agent.finish(cut, signal)
  }

  return {
    mark(ref) {
      const handle: Handle = { ended: new AbortController(), marked: null }
      handles.set(ref.cut, handle)
      // Not inside the machine's effects (H1); the gate is closed, so nothing comes between.
      queueMicrotask(() => void takeMark(ref, handle))
    },
    capture(ref) {
      const handle = handles.get(ref.cut)
      const marked = handle?.marked
      if (handle === undefined || marked == null) {
        const message = `"${settings.name}" has no mark of cut ${ref.cut}`
        queueMicrotask(() =>
          shell().feed({ type: 'captureFailed', ref, failure: { code: 'mark_lost', message, retry: 'never' } }),
        )
        return
      }
      upload(ref, handle, marked).then(
        (evidence) => shell().feed({ type: 'captured', ref, evidence }),
        (error) => {
          if (handle.ended.signal.aborted) return
          settings.error(error, 'upload of the captured state')
          shell().feed({ type: 'captureFailed', ref, failure: describeFailure(error) })
        },
      )
    },
    drop(ref) {
      const handle = handles.get(ref.cut)
      handles.delete(ref.cut)
      if (handle === undefined) return
      handle.ended.abort(new Failure({ code: 'cut_over', message: `cut ${ref.cut} is over` }))
      if (handle.marked !== null) void release(handle.marked)
    },
    close() {
      for (const handle of handles.values()) {
        handle.ended.abort(new Failure({ code: 'closed', message: 'the participant was closed' }))
        if (handle.marked !== null) void release(handle.marked)
      }
      handles.clear()
    },
  }
}

function jsonMark(value: unknown): Marked {
  const json = JSON.stringify(value)
  if (json === undefined) {
    const message = '"capture" answered nothing that can be written as JSON'
    throw new Failure({ code: 'state_invalid', message, hint: 'Answer a JSON value, or { parts }.' })
  }
  return { parts: new Map([[jsonPartName, new TextEncoder().encode(json)]]), release: () => {} }
}

async function* bodyOf(part: StatePart): AsyncGenerator<Uint8Array> {
  if (typeof part === 'function') yield* part()
  else yield part
}

/** Progress counts what was sent, repetitions included. */
async function* counted(body: AsyncIterable<Uint8Array>, sent: { bytes: number }): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    sent.bytes += chunk.byteLength
    yield chunk
  }
}

/** Per channel, the messages of older sessions first, each session in the order of sending. */
export function byChannel(entries: readonly RecordedEntry[]): ReadonlyMap<ChannelId, readonly RecordedEntry[]> {
  const channels = new Map<ChannelId, RecordedEntry[]>()
  for (const entry of entries) {
    const known = channels.get(entry.channel)
    if (known === undefined) channels.set(entry.channel, [entry])
    else known.push(entry)
  }
  for (const list of channels.values()) {
    const sessions = [...new Set(list.map(({ stamp }) => stamp.session))]
    const rank = ({ stamp }: RecordedEntry): number => sessions.indexOf(stamp.session)
    list.sort((a, b) => rank(a) - rank(b) || a.stamp.seq - b.stamp.seq)
  }
  return channels
}

async function* linesOf(entries: readonly RecordedEntry[]): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder()
  for (const { stamp, body } of entries) {
    const { message, session, seq, epoch } = stamp
    const line: RecordedMessage = { message, session, seq, epoch, ...body }
    yield encoder.encode(`${JSON.stringify(line)}\n`)
  }
}
