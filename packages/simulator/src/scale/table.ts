/** Runs worlds of many sizes, each in a process of its own, and prints what a cut costs as a table. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { growthOf } from './fit.ts'
import type { ScaleCounts } from './scale-world.ts'
import type { TopologyName } from './topology.ts'

export interface Measured extends ScaleCounts {
  /** The most memory that the process with the whole world had, bytes. */
  readonly rssBytes: number
}

/** One row, in a process of its own. @throws when the judges of that world found anything */
export async function measure<T>(what: TopologyName | 'connections', processes: number): Promise<T> {
  const main = fileURLToPath(new URL('../scale-main.ts', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [main, '--one', what, '--processes', `${processes}`])
  return JSON.parse(stdout)
}

export type Column<T> = readonly [name: string, value: (row: T) => number, show: (value: number) => string]

export const worldColumns: readonly Column<Measured>[] = [
  ['processes', (one) => one.processes, String],
  ['channels', (one) => one.channels, String],
  ['orders', (one) => one.orders, String],
  ['facts', (one) => one.facts, String],
  ['markers', (one) => one.markers, String],
  ['commits', (one) => one.commits, String],
  ['CPU ms', (one) => one.cpuMs, (ms) => ms.toFixed(0)],
  ['memory, MB', (one) => one.rssBytes / 1e6, (mb) => mb.toFixed(0)],
  ['orders and facts, kB', (one) => one.wireBytes / 1e3, (kb) => kb.toFixed(0)],
  ['records, kB', (one) => one.recordBytes / 1e3, (kb) => kb.toFixed(0)],
  ['certificate, kB', (one) => one.certificateBytes / 1e3, (kb) => kb.toFixed(0)],
]

/** Markdown, with the growth of each column in the last row: the exponent of the first column's number. */
export function tableOf<T>(columns: readonly Column<T>[], rows: readonly T[]): string {
  const [size] = columns
  if (size === undefined) return ''
  const lines = [`| ${columns.map(([name]) => name).join(' | ')} |`, `|${columns.map(() => '---:|').join('')}`]
  for (const row of rows) lines.push(`| ${columns.map(([, value, show]) => show(value(row))).join(' | ')} |`)
  const growth = columns.map(([, value]) => {
    const points = rows.map((row) => [size[1](row), value(row)] as const)
    return points.every(([, y]) => y > 0) ? `n^${growthOf(points).toFixed(2)}` : ''
  })
  return [...lines, `| ${growth.join(' | ')} |`].join('\n')
}
