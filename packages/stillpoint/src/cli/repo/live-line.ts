/** One line of progress on stderr, on a terminal only. */
import type { Clock } from '@stillpoint/core/kernel'
import { plainText } from '../quantities.ts'
import type { CommandSession } from '../session.ts'
import { cutTo } from '../table.ts'

const fpsDefault = 10
const fpsMax = 60

/** How often progress is shown in a second: $RESTIC_PROGRESS_FPS, from 0.01 to 60, as with restic. */
export function progressFps(): number {
  const { RESTIC_PROGRESS_FPS: text } = process.env
  const fps = text === undefined || text === '' ? Number.NaN : Number(text)
  return fps > 0 ? Math.min(fpsMax, Math.max(0.01, fps)) : fpsDefault
}

export interface LiveLine {
  update(text: string): void
  /** Removes it. Idempotent. */
  end(): void
}

export function showLine({ host, output }: CommandSession, clock: Clock = host.clock): LiveLine {
  const { stderr } = output.terminal
  if (!stderr.isTTY || output.json) return { update: () => {}, end: () => {} }
  const redrawMs = 1000 / progressFps()
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
