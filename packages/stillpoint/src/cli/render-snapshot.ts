/** Snapshots, checks and differences as text for people. Pure. */
import type {
  DiffResult,
  RestoreResult,
  SnapshotDetail,
  SnapshotSummary,
  VerifyResult,
} from '../coordinator/operations.ts'
import type { Tone } from './output.ts'
import { bytesText, countText, elapsedText, plainText, shortId, timeText } from './quantities.ts'
import { cutTo, tableLines, wrapped } from './table.ts'

export interface RenderOptions {
  /** Width of the terminal; undefined: nothing is cut or wrapped. */
  readonly width: number | undefined
  readonly tone: (text: string, tone: Tone) => string
}

const verdictTones = { consistent: 'good', 'crash-consistent': 'warning', inconsistent: 'bad' } as const

export function listLines(snapshots: readonly SnapshotSummary[], options: RenderOptions): readonly string[] {
  const rows = snapshots.map((snapshot) => [
    shortId(snapshot.id),
    timeText(snapshot.time),
    snapshot.verdict,
    String(snapshot.participants),
    bytesText(snapshot.bytes),
    String(snapshot.inFlight),
    elapsedText(snapshot.pauseMs),
  ])
  const columns = [
    { title: 'ID' },
    { title: 'TIME', shrinkTo: 10 },
    { title: 'VERDICT', shrinkTo: 10 },
    { title: 'PARTICIPANTS', align: 'right', shrinkTo: 5 },
    { title: 'SIZE', align: 'right' },
    { title: 'IN FLIGHT', align: 'right' },
    { title: 'PAUSE', align: 'right' },
  ] as const
  const [titles = '', ...lines] = tableLines(columns, rows, { width: options.width })
  return [options.tone(titles, 'faint'), ...lines]
}

export function detailLines(snapshot: SnapshotDetail, options: RenderOptions): readonly string[] {
  const { width, tone } = options
  const facts: readonly (readonly [string, string])[] = [
    ['system', snapshot.system],
    ['time', timeText(snapshot.time)],
    ['cut', `${snapshot.cut}, epoch ${snapshot.epoch}, generation ${snapshot.generation}`],
    ['size', bytesText(snapshot.bytes)],
    ['pause', elapsedText(snapshot.pauseMs)],
    ['in flight', countText(snapshot.inFlight, 'message')],
  ]
  const lines = facts.map(([name, value]) => `  ${name.padEnd(10)} ${cut(plainText(value), width, 13)}`)
  const verdict = `  ${'verdict'.padEnd(10)} ${tone(snapshot.verdict, verdictTones[snapshot.verdict])}`
  const reasons = snapshot.verdictReasons.flatMap((reason) => bulleted(reason, 13, width))
  return [
    tone(`Snapshot ${snapshot.id}`, 'strong'),
    verdict,
    ...reasons,
    ...lines,
    ...participantLines(snapshot, options),
    ...channelLines(snapshot, options),
  ]
}

function participantLines(snapshot: SnapshotDetail, { width, tone }: RenderOptions): readonly string[] {
  const rows = snapshot.participantDetails.map((each) => [
    each.name,
    each.source,
    each.grade,
    each.heldMs === null ? '-' : elapsedText(each.heldMs),
    bytesText(each.bytes),
    String(each.files),
    Object.entries(each.position)
      .map(([key, value]) => `${key} ${value}`)
      .join(', '),
  ])
  const columns = [
    { title: 'PARTICIPANT', shrinkTo: 12 },
    { title: 'SOURCE' },
    { title: 'GRADE' },
    { title: 'HELD', align: 'right' },
    { title: 'SIZE', align: 'right' },
    { title: 'FILES', align: 'right' },
    { title: 'POSITION', shrinkTo: 8 },
  ] as const
  const [titles = '', ...lines] = tableLines(columns, rows, { width, indent: 2 })
  const remarks = snapshot.participantDetails.map((each) => [
    ...each.caveats.flatMap((text) => bulleted(`caveat: ${text}`, 4, width)),
    ...each.notes.flatMap((text) => bulleted(text, 4, width)),
  ])
  return ['', tone(titles, 'faint'), ...lines.flatMap((line, index) => [line, ...(remarks[index] ?? [])])]
}

function channelLines(snapshot: SnapshotDetail, { width, tone }: RenderOptions): readonly string[] {
  if (snapshot.channels.length === 0) return []
  const rows = snapshot.channels.map((each) => [
    each.channel,
    String(each.sent),
    String(each.received),
    String(each.inFlight),
    String(each.missing),
  ])
  const columns = [
    { title: 'CHANNEL', shrinkTo: 12 },
    { title: 'SENT', align: 'right' },
    { title: 'RECEIVED', align: 'right' },
    { title: 'IN FLIGHT', align: 'right' },
    { title: 'MISSING', align: 'right' },
  ] as const
  const [titles = '', ...lines] = tableLines(columns, rows, { width, indent: 2 })
  return ['', tone(titles, 'faint'), ...lines]
}

export function checkLines(checks: VerifyResult['checks'], indent: number, options: RenderOptions): readonly string[] {
  const nameWidth = Math.min(32, Math.max(0, ...checks.map(({ name }) => name.length)))
  return checks.map(({ name, passed, detail }) => {
    const mark = passed ? options.tone('ok    ', 'good') : options.tone('FAILED', 'bad')
    const text = `${plainText(name).padEnd(nameWidth)}  ${plainText(detail).replaceAll('\n', ' ')}`
    return `${' '.repeat(indent)}${mark}  ${cut(text, passed ? options.width : undefined, indent + 8)}`.trimEnd()
  })
}

export function verifyLines(result: VerifyResult, options: RenderOptions): readonly string[] {
  const verdict = options.tone(result.verdict, verdictTones[result.verdict])
  const outcome = result.passed ? options.tone('verified', 'good') : options.tone('DAMAGED', 'bad')
  return [
    `Snapshot ${result.id}`,
    ...checkLines(result.checks, 2, options),
    `${outcome}: the recomputed verdict is ${verdict}; ${bytesText(result.bytesRead)} read`,
  ]
}

const changeMarks = { added: '+', removed: '-', changed: '~', same: '=' } as const

export function diffLines(diff: DiffResult, options: RenderOptions): readonly string[] {
  const head = `${shortId(diff.from)} → ${shortId(diff.to)}`
  const body = diff.participants.flatMap((participant) => {
    const { name, change, bytesBefore, bytesAfter } = participant
    const sizes = change === 'same' ? bytesText(bytesAfter) : `${bytesText(bytesBefore)} → ${bytesText(bytesAfter)}`
    const entries = participant.entries.map((entry) => {
      const text = `    ${changeMarks[entry.change]} ${plainText(entry.path)}`
      return `${text}  ${bytesText(entry.bytesBefore)} → ${bytesText(entry.bytesAfter)}`
    })
    return [`  ${changeMarks[change]} ${options.tone(plainText(name), 'strong')}  ${change}  ${sizes}`, ...entries]
  })
  return [head, ...body]
}

export function restoreLines(result: RestoreResult, options: RenderOptions): readonly string[] {
  const head = `Restored snapshot ${shortId(result.id)} as generation ${result.generation}`
  const participants = result.participants.flatMap((each) => {
    const state = each.outcome === 'restored' ? options.tone('restored', 'good') : options.tone('waiting', 'warning')
    const detail = each.outcome === 'restored' ? bytesText(each.bytes) : 'it is restored when it joins'
    return [
      `  ${plainText(each.name)}  ${state}  ${detail}`,
      ...checkLines(each.checks, 4, options),
      ...each.notes.flatMap((note) => bulleted(note, 4, options.width)),
    ]
  })
  const damage = result.damage.flatMap((text) => bulleted(text, 2, options.width))
  return [head, ...participants, ...(damage.length === 0 ? [] : ['', 'What this restore breaks:', ...damage])]
}

function bulleted(text: string, indent: number, width: number | undefined): readonly string[] {
  const lines = wrapped(plainText(text), width === undefined ? undefined : Math.max(20, width - indent - 2))
  return lines.map((line, index) => `${' '.repeat(indent)}${index === 0 ? '- ' : '  '}${line}`)
}

function cut(text: string, width: number | undefined, indent: number): string {
  return width === undefined ? text : cutTo(text, Math.max(10, width - indent))
}
