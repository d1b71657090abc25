/**
 * What an operation shows of itself while it runs: on a terminal a few lines that are redrawn, elsewhere nothing, or
 * with `--verbose` one plain line per phase.
 *
 * Owns: rates, remaining time, the lines. Does not own: the events, nor the streams.
 *
 * `reduceProgress` and `progressLines` are pure; only `showProgress` has a clock and a stream.
 */
import type { Clock } from '@stillpoint/core/kernel'
import type { OperationContext, OperationEvent } from '../coordinator/operations.ts'
import type { Output } from './output.ts'
import { bytesText, countdownText, countText, elapsedText } from './quantities.ts'
import { cutTo } from './table.ts'

/** Rates are means over this time: shorter flickers, longer lags behind. */
const rateWindowMs = 5_000
const redrawMs = 100
const participantsShownMax = 12
const barWidthMax = 24

interface Sample {
  readonly atMs: number
  readonly bytes: number
}

export interface ParticipantProgress {
  readonly bytes: number
  readonly bytesTotal: number | null
  readonly files: number
  readonly samples: readonly Sample[]
}

export interface ProgressState {
  readonly phase: string | null
  readonly phaseSinceMs: number
  readonly attempt: number
  readonly participants: ReadonlyMap<string, ParticipantProgress>
}

export const noProgress: ProgressState = { phase: null, phaseSinceMs: 0, attempt: 1, participants: new Map() }

export function reduceProgress(state: ProgressState, event: OperationEvent, nowMs: number): ProgressState {
  if (event.type === 'phase') {
    // Another attempt copies again from nothing.
    const participants = event.attempt === state.attempt ? state.participants : new Map()
    return { phase: event.phase, phaseSinceMs: nowMs, attempt: event.attempt, participants }
  }
  if (event.type !== 'progress') return state
  const { participant, bytes, bytesTotal, files } = event
  const earlier = state.participants.get(participant)?.samples ?? []
  const recent = earlier.filter((sample) => nowMs - sample.atMs <= rateWindowMs && sample.bytes <= bytes)
  const samples = [...recent.slice(-60), { atMs: nowMs, bytes }]
  return {
    ...state,
    participants: new Map([...state.participants, [participant, { bytes, bytesTotal, files, samples }]]),
  }
}

/** Bytes per second; null until there is something to compare. */
export function bytesPerSecond(samples: readonly Sample[], nowMs: number): number | null {
  const [first] = samples
  const last = samples.at(-1)
  if (first === undefined || last === undefined || nowMs - first.atMs < 500) return null
  return ((last.bytes - first.bytes) * 1000) / (nowMs - first.atMs)
}

/** The lines for this moment, each at most `width` characters. */
export function progressLines(state: ProgressState, nowMs: number, width: number): readonly string[] {
  if (state.phase === null) return []
  const attempt = state.attempt > 1 ? `, attempt ${state.attempt}` : ''
  const head = `${state.phase}${attempt}  ${countdownText(Math.floor((nowMs - state.phaseSinceMs) / 1000) * 1000)}`
  const entries = [...state.participants]
  const nameWidth = Math.min(24, Math.max(0, ...entries.map(([name]) => name.length)))
  const lines = entries.slice(0, participantsShownMax).map(([name, progress]) => {
    const title = cutTo(name, nameWidth).padEnd(nameWidth)
    return `  ${title}  ${participantText(progress, nowMs, width - nameWidth - 4)}`
  })
  const hidden = entries.length - lines.length
  const more = hidden > 0 ? [`  and ${countText(hidden, 'more participant')}`] : []
  return [head, ...lines, ...more].map((line) => cutTo(line, width))
}

function participantText(progress: ParticipantProgress, nowMs: number, width: number): string {
  const { bytes, bytesTotal, samples, files } = progress
  const rate = bytesPerSecond(samples, nowMs)
  const rateText = rate === null ? '' : `  ${bytesText(rate)}/s`
  const filesText = files > 1 ? `  ${countText(files, 'file')}` : ''
  if (bytesTotal === null || bytesTotal === 0) return `${bytesText(bytes)}${filesText}${rateText}`
  // An estimate may be too low: the bar stays below its end until the phase is over.
  const share = Math.min(bytes / bytesTotal, 1)
  const left =
    rate === null || rate <= 0 || bytes >= bytesTotal
      ? ''
      : `  ${countdownText(((bytesTotal - bytes) / rate) * 1000)} left`
  const text = `${String(Math.floor(share * 100)).padStart(3)} %  ${bytesText(bytes)} of ${bytesText(bytesTotal)}${rateText}${left}`
  const barWidth = Math.min(barWidthMax, width - text.length - 2)
  return barWidth < 6 ? text : `${bar(share, barWidth)}  ${text}`
}

function bar(share: number, width: number): string {
  const full = Math.floor(share * width)
  return '━'.repeat(full) + '╌'.repeat(width - full)
}

export interface ProgressDisplay {
  readonly onEvent: OperationContext['onEvent']
  /** Removes what is shown. Idempotent. */
  end(): void
}

export interface ProgressOptions {
  readonly output: Output
  readonly clock: Clock
  readonly verbose: boolean
}

export function showProgress(options: ProgressOptions): ProgressDisplay {
  const { output, clock, verbose } = options
  const { stderr } = output.terminal
  const isLive = stderr.isTTY && !output.json
  let state = noProgress
  let shown = 0
  let cancel: (() => void) | null = null
  const hide = () => {
    // Up to the first line of ours, then clear to the end of the screen.
    if (shown > 0) stderr.write(`\u001b[${shown}A\u001b[0J`)
    shown = 0
  }
  const show = () => {
    const lines = progressLines(state, clock.monotonicMs(), (stderr.columns() ?? 80) - 1)
    if (lines.length > 0) stderr.write(`${lines.join('\n')}\n`)
    shown = lines.length
  }
  const tick = () => {
    hide()
    show()
    cancel = clock.after(redrawMs, tick)
  }
  if (isLive) {
    output.setLive({ hide, show })
    cancel = clock.after(redrawMs, tick)
  }
  return {
    onEvent(event) {
      state = reduceProgress(state, event, clock.monotonicMs())
      const text = eventMessage(event)
      if (text !== null) output.message(text)
      else if (verbose && !isLive && event.type === 'phase') output.message(phaseText(event))
    },
    end() {
      cancel?.()
      cancel = null
      if (isLive) {
        hide()
        output.setLive(null)
      }
    },
  }
}

/** What is worth a line that stays. */
function eventMessage(event: OperationEvent): string | null {
  if (event.type === 'note') return event.participant === null ? event.text : `${event.participant}: ${event.text}`
  if (event.type === 'retry') {
    const { attempt, delayMs, failure } = event
    return `attempt ${attempt} failed (${failure.code}): ${failure.message}; the next one follows in ${elapsedText(delayMs)}`
  }
  return null
}

function phaseText(event: Extract<OperationEvent, { type: 'phase' }>): string {
  return event.attempt > 1 ? `${event.phase} (attempt ${event.attempt})` : event.phase
}
