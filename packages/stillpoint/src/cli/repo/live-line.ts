/** One line of progress on stderr, on a terminal only. */
import type { Clock } from '@stillpoint/core/kernel'
import { plainText } from '../quantities.ts'
import type { CommandSession } from '../session.ts'
import { cutTo } from '../table.ts'

const redrawMs = 100

export interface LiveLine {
  update(text: string): void
  /** Removes it. Idempotent. */
  end(): void
}

export function showLine({ host, output }: CommandSession, clock: Clock = host.clock): LiveLine {
  const { stderr } = output.terminal
  if (!stderr.isTTY || output.json) return { update: () => {}, end: () => {} }
  let text = ''
  let isShown = false
  let drawnMs = Number.NEGATIVE_INFINITY
  const hide = () => {
    if (isShown) stderr.write('\r\u001b[2K')
    isShown = false
  }
  const show = () => {
    if (text === '') return
    stderr.write(cutTo(plainText(text).replaceAll('\n', ' '), (stderr.columns() ?? 80) - 1))
    isShown = true
  }
  output.setLive({ hide, show })
  return {
    update(next) {
      text = next
      if (clock.monotonicMs() - drawnMs < redrawMs) return
      drawnMs = clock.monotonicMs()
      hide()
      show()
    },
    end() {
      hide()
      text = ''
      output.setLive(null)
    },
  }
}

/** Shows a line while the work runs. */
export async function withLine<T>(session: CommandSession, work: (line: LiveLine) => Promise<T>): Promise<T> {
  const line = showLine(session)
  try {
    return await work(line)
  } finally {
    line.end()
  }
}
