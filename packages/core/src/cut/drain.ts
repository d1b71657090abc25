/**
 * The drain: messages of earlier epochs that arrive after the mark are channel state, until what the senders say they
 * sent agrees with what is here. A message that never comes is a deficit, and is named (C2).
 */
import type { Drained, SentAtCut } from './messages.ts'
import type { CutWork, ProcessState, Recording, Step } from './process-state.ts'
import { patchWork, report, sessionKey } from './process-state.ts'
import { addReceived, missingFrom, nothingReceived } from './received.ts'

export function beginDrain(step: Step, expected: readonly SentAtCut[], deadlineAtMs: number): void {
  patchWork(step, { draining: { expected, deadlineAtMs } })
}

/** Reports the drain as ended when every session has ended, or at the deadline. */
export function tryDrained(step: Step, nowMs: number): void {
  const { work } = step.state
  if (work === null || work.draining === null || work.drained !== null) return
  const { expected, deadlineAtMs } = work.draining
  const sessions = sessionsOf(work, expected).map((session) => drainOf(step.state, work, session))
  const isOver = nowMs >= deadlineAtMs || sessions.every(({ endedBy }) => endedBy !== 'deadline')
  if (!isOver) return
  patchWork(step, { drained: sessions })
  report(step, { type: 'drained', ref: work.ref, inbound: sessions })
}

interface SessionDrain {
  readonly recording: Recording
  readonly sent: number
  /** Messages whose sender knows that the call failed, and not whether they arrived: nobody waits for them. */
  readonly uncertain: readonly number[]
}

/** Every session that either end knows of. */
function sessionsOf(work: CutWork, expected: readonly SentAtCut[]): readonly SessionDrain[] {
  const sessions = new Map<string, SessionDrain>()
  for (const recording of work.recordings) {
    sessions.set(sessionKey(recording.channel, recording.session), { recording, sent: 0, uncertain: [] })
  }
  for (const { channel, session, fifo, sent, uncertain } of expected) {
    const key = sessionKey(channel, session)
    const known = sessions.get(key)?.recording
    const recording = known ?? { channel, session, fifo, received: nothingReceived, recorded: [] }
    sessions.set(key, { recording, sent, uncertain })
  }
  return [...sessions.values()]
}

function drainOf(state: ProcessState, work: CutWork, { recording, sent, uncertain }: SessionDrain): Drained {
  const { channel, session, recorded } = recording
  let here = recording.received
  for (const { seq } of recorded) here = addReceived(here, seq)
  const missing = missingFrom(here, sent)
  const newestEpoch = state.inbound.get(sessionKey(channel, session))?.newestEpoch ?? 0
  const isMarked = recording.fifo && newestEpoch >= work.ref.epoch
  const isComplete = missing.every((seq) => uncertain.includes(seq))
  const endedBy = isComplete ? (isMarked ? 'marker' : 'counts') : isMarked ? 'marker' : 'deadline'
  return { channel, session, recorded, missing, endedBy }
}
