/**
 * The drain: messages of earlier epochs that arrive after the mark are channel state, until what the senders say they
 * sent agrees with what is here. A message that never comes is a deficit, and is named (C2).
 */
import type { Drained, SentAtCut } from './messages.ts'
import type { CutWork, ProcessState, Recording, Step } from './process-state.ts'
import { patchWork, report, sessionKey } from './process-state.ts'
import { addReceived, countMissing, missingFrom, nothingReceived } from './received.ts'

export function beginDrain(step: Step, expected: readonly SentAtCut[], deadlineAtMs: number): void {
  patchWork(step, { draining: { expected, deadlineAtMs } })
}

/** Reports the drain as ended when every session has ended, or at the deadline. */
export function tryDrained(step: Step, nowMs: number): void {
  const { work } = step.state
  if (work === null || work.draining === null || work.drained !== null) return
  const { expected, deadlineAtMs } = work.draining
  const sessions = sessionsOf(work, expected)
  const isOver = nowMs >= deadlineAtMs || sessions.every((session) => hasEnded(step.state, work, session))
  if (!isOver) return
  const inbound = sessions.map((session) => drainOf(step.state, work, session))
  patchWork(step, { drained: inbound })
  report(step, { type: 'drained', ref: work.ref, inbound })
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

function hasEnded(state: ProcessState, work: CutWork, session: SessionDrain): boolean {
  if (isMarked(state, work, session.recording)) return true
  const { recording, sent, uncertain } = session
  // Every message is recorded once, and not when it is received (C2): so what is missing is counted, and not yet listed.
  const recorded = recording.recorded.filter(({ seq }) => seq <= sent).length
  const missing = countMissing(recording.received, sent) - recorded
  if (missing === 0 || missing > uncertain.length) return missing === 0
  return drainOf(state, work, session).endedBy !== 'deadline'
}

/** On a FIFO channel nothing older follows a message or marker of the epoch. */
function isMarked(state: ProcessState, work: CutWork, { channel, session, fifo }: Recording): boolean {
  return fifo && (state.inbound.get(sessionKey(channel, session))?.newestEpoch ?? 0) >= work.ref.epoch
}

function drainOf(state: ProcessState, work: CutWork, { recording, sent, uncertain }: SessionDrain): Drained {
  const { channel, session, recorded } = recording
  let here = recording.received
  for (const { seq } of recorded) here = addReceived(here, seq)
  const missing = missingFrom(here, sent)
  const isComplete = missing.every((seq) => uncertain.includes(seq))
  const endedBy = isMarked(state, work, recording) ? 'marker' : isComplete ? 'counts' : 'deadline'
  return { channel, session, recorded, missing, endedBy }
}
