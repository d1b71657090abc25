/**
 * The child process of a SQLite session: one connection, driven by messages, ended by its lease and by its parent's
 * death, whichever comes first.
 *
 * Owns: dispatch. Does not own: what each operation does (child-hold.ts, child-mark.ts, child-restore.ts).
 */
import { explain } from './child-database.ts'
import { ChildHold } from './child-hold.ts'
import { ChildMark } from './child-mark.ts'
import { checkFile, factsOfTarget, inspectTarget, swapTarget } from './child-restore.ts'
import type { Ask } from './messages.ts'

// The parent is gone: whatever is held must go, now. Nothing here needs a clean end.
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'))

let path = ''
let hold: ChildHold | undefined
let mark: ChildMark | undefined

function isAsk(message: unknown): message is Ask {
  return typeof message === 'object' && message !== null && 'op' in message && typeof message.op === 'string'
}

process.on('message', async (message) => {
  if (!isAsk(message)) throw new TypeError('a message that is no call')
  try {
    process.send?.({ answer: await answer(message) })
  } catch (error) {
    const { code, message: text, hint, retry } = explain(error, path)
    process.send?.({ failure: { code, message: text, hint, retry } })
  }
})

async function answer(ask: Ask): Promise<unknown> {
  if ('path' in ask) path = ask.path
  switch (ask.op) {
    case 'open':
      mark = new ChildMark(ask)
      hold = new ChildHold(mark)
      return mark.describe()
    case 'hold':
      return opened(hold).take(ask)
    case 'resume':
      return opened(hold).resume()
    case 'mark':
      return opened(mark).take(ask)
    case 'copy':
      return opened(mark).copy(ask.copyTo)
    case 'inspect':
      return inspectTarget(ask)
    case 'check':
      return checkFile(ask.path)
    case 'facts':
      return factsOfTarget(ask)
    case 'swap':
      return swapTarget(ask)
  }
}

function opened<T>(value: T | undefined): T {
  if (value === undefined) throw new TypeError('a call before open')
  return value
}
