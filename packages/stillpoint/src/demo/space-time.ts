/**
 * A space–time diagram for the terminal: a lane per process, time from left to right, the cut through all lanes, and the
 * messages that cross it. Pure: events in, lines out.
 */
export interface LaneEvent {
  /** Milliseconds on one clock for all lanes. */
  readonly atMs: number
  readonly kind: 'sent' | 'handled'
  readonly message: string
}

export interface Lane {
  readonly name: string
  readonly markedAtMs: number
  readonly events: readonly LaneEvent[]
}

export interface Crossing {
  readonly message: string
  readonly from: string
  readonly to: string
  readonly label: string
}

export interface DiagramOptions {
  readonly lanes: readonly Lane[]
  /** Messages in flight at the cut. */
  readonly crossings: readonly Crossing[]
  readonly width: number
  readonly crossingsMax?: number
}

const letters = 'abcdefghijklmnopqrstuvwxyz'

/**
 * Lines of the diagram. A crossing message is a letter: small where it was sent, capital where it was handled; other
 * messages are dots. The cut is `┃` in each lane, at the instant of that process's own mark.
 */
export function drawSpaceTime({ lanes, crossings, width, crossingsMax = 8 }: DiagramOptions): readonly string[] {
  if (lanes.length === 0) return []
  const nameWidth = Math.max(...lanes.map(({ name }) => name.length)) + 2
  const columns = Math.max(20, width - nameWidth - 2)
  const shown = crossings.slice(0, crossingsMax)
  const scale = scaleOf(lanes, shown, columns)
  const lines: string[] = []
  lanes.forEach((lane, index) => {
    if (index > 0) lines.push(gapLine(lanes[index - 1] ?? lane, lane, { nameWidth, scale }))
    lines.push(`${lane.name.padEnd(nameWidth)}${laneCells(lane, shown, { columns, scale }).join('')}▶`)
  })
  const pad = ' '.repeat(nameWidth)
  lines.push(`${pad}┃ the cut   · sent or handled   a sent, A handled: in flight at the cut`)
  shown.forEach(({ from, to, label }, index) => {
    lines.push(`${pad}${letterOf(index)} ${from} → ${to}  ${label}`)
  })
  if (crossings.length > shown.length) lines.push(`${pad}… and ${crossings.length - shown.length} more in flight`)
  return lines
}

type Scale = (atMs: number) => number

/** The window: all marks, and as much of the crossing messages as fits in four times the marks' spread, or 60 ms. */
function scaleOf(lanes: readonly Lane[], crossings: readonly Crossing[], columns: number): Scale {
  const marks = lanes.map(({ markedAtMs }) => markedAtMs)
  const first = Math.min(...marks)
  const last = Math.max(...marks)
  const ids = new Set(crossings.map(({ message }) => message))
  const times = lanes.flatMap(({ events }) => events.filter(({ message }) => ids.has(message)).map(({ atMs }) => atMs))
  const reachMs = Math.max(60, 4 * (last - first))
  const from = Math.max(first - reachMs, Math.min(first - 5, ...times))
  const to = Math.min(last + reachMs, Math.max(last + 5, ...times))
  const perColumn = (to - from) / (columns - 1)
  return (atMs) => Math.round((atMs - from) / perColumn)
}

function laneCells(
  lane: Lane,
  crossings: readonly Crossing[],
  { columns, scale }: { columns: number; scale: Scale },
): string[] {
  const cells = new Array<string>(columns).fill('─')
  const put = (atMs: number, cell: string, isWeak: boolean): void => {
    const column = scale(atMs)
    if (column < 0 || column >= columns) return
    if (!isWeak || cells[column] === '─') cells[column] = cell
  }
  for (const { atMs } of lane.events) put(atMs, '·', true)
  crossings.forEach(({ message }, index) => {
    for (const event of lane.events) {
      if (event.message !== message) continue
      put(event.atMs, event.kind === 'sent' ? letterOf(index) : letterOf(index).toUpperCase(), false)
    }
  })
  put(lane.markedAtMs, '┃', false)
  return cells
}

/** The cut between two lanes: straight where their marks share a column, else a bend. */
function gapLine(above: Lane, below: Lane, { nameWidth, scale }: { nameWidth: number; scale: Scale }): string {
  const [a, b] = [scale(above.markedAtMs), scale(below.markedAtMs)]
  if (a === b) return `${' '.repeat(nameWidth + a)}┃`
  const [left, right] = [Math.min(a, b), Math.max(a, b)]
  const ends = a < b ? ['┗', '┓'] : ['┏', '┛']
  return `${' '.repeat(nameWidth + left)}${ends[0]}${'━'.repeat(right - left - 1)}${ends[1]}`
}

function letterOf(index: number): string {
  return letters[index % letters.length] ?? '?'
}
