/**
 * Aligned columns as plain text.
 *
 * Owns: widths, alignment, what is cut off when the terminal is narrow. Does not own: what the cells say.
 */
import { plainText } from './quantities.ts'

export interface Column {
  readonly title: string
  readonly align?: 'left' | 'right'
  /** May be cut, down to this many characters, when the table is wider than the terminal. */
  readonly shrinkTo?: number
}

export interface TableOptions {
  /** Width of the terminal; undefined: nothing is cut. */
  readonly width?: number | undefined
  readonly indent?: number
}

const gap = '  '

/** Lines of the table, its titles first. */
export function tableLines(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  options: TableOptions = {},
): readonly string[] {
  const indent = ' '.repeat(options.indent ?? 0)
  const cells = [columns.map(({ title }) => title), ...rows].map((row) =>
    columns.map((_, index) => plainText(row[index] ?? '').replaceAll('\n', ' ')),
  )
  const natural = columns.map((_, index) => Math.max(...cells.map((row) => widthOf(row[index] ?? ''))))
  const widths = fitted(columns, natural, options.width === undefined ? undefined : options.width - indent.length)
  return cells.map((row) => {
    const line = columns.map((column, index) => aligned(row[index] ?? '', widths[index] ?? 0, column.align ?? 'left'))
    return `${indent}${line.join(gap)}`.trimEnd()
  })
}

function fitted(columns: readonly Column[], natural: readonly number[], width: number | undefined): readonly number[] {
  if (width === undefined) return natural
  const widths = [...natural]
  let excess = widths.reduce((sum, each) => sum + each, 0) + gap.length * (columns.length - 1) - width
  // The widest gives way first, so that no column vanishes while another is roomy.
  while (excess > 0) {
    let widest = -1
    for (const [index, column] of columns.entries()) {
      const least = column.shrinkTo
      if (least === undefined || (widths[index] ?? 0) <= least) continue
      if (widest === -1 || (widths[index] ?? 0) > (widths[widest] ?? 0)) widest = index
    }
    if (widest === -1) break
    widths[widest] = (widths[widest] ?? 0) - 1
    excess -= 1
  }
  return widths
}

function aligned(text: string, width: number, align: 'left' | 'right'): string {
  const shown = cutTo(text, width)
  const padding = ' '.repeat(Math.max(0, width - widthOf(shown)))
  return align === 'right' ? padding + shown : shown + padding
}

/** At most `width` characters, with an ellipsis where something is missing. */
export function cutTo(text: string, width: number): string {
  const characters = [...text]
  return characters.length <= width ? text : `${characters.slice(0, Math.max(0, width - 1)).join('')}…`
}

function widthOf(text: string): number {
  return [...text].length
}

/** Words in lines of at most `width` characters; a longer word has a line of its own. */
export function wrapped(text: string, width: number | undefined): readonly string[] {
  return text.split('\n').flatMap((paragraph) => {
    if (width === undefined) return [paragraph]
    const lines: string[] = []
    let line = ''
    for (const word of paragraph.split(' ')) {
      if (line !== '' && widthOf(line) + 1 + widthOf(word) > width) {
        lines.push(line)
        line = word
      } else {
        line = line === '' ? word : `${line} ${word}`
      }
    }
    return [...lines, line]
  })
}
