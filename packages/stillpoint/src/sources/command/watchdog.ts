/**
 * A process of its own that makes and ends a hold with the user's commands.
 *
 * Run as a program by hook-hold.ts. It runs the quiesce command, and then the resume command exactly once: when it is
 * told to, at the lease, or when its parent has died, whichever comes first. So the hold ends at its lease even if the
 * parent hangs, is stopped or is killed (S2, C5). It is in a session of its own: what is typed at the terminal of the
 * parent does not reach it.
 *
 * A quiesce that failed, was late or was cancelled may have half happened: it, too, is followed by the resume command.
 */
import { describeFailure } from '@stillpoint/core/kernel'
import { type Command, commandText } from './command-process.ts'

export interface WatchdogOrder {
  readonly order: 'hold'
  readonly quiesce: Command
  readonly resume: Command
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  readonly leaseMs: number
  readonly timeoutMs: number
}

type State =
  | { readonly name: 'free' }
  | { readonly name: 'quiescing'; readonly cancel: AbortController }
  | { readonly name: 'held'; readonly untilMs: number }
  | { readonly name: 'resuming'; readonly detail: string }

/** The resume is what nobody else would do again. */
const resumeTries = 3
const resumePauseMs = 500
const never = new AbortController().signal

let state: State = { name: 'free' }
let resumed: Promise<string | undefined> | undefined

function tell(message: unknown): void {
  // The parent may be gone: then nobody is waiting for it.
  if (process.connected) process.send?.(message, () => undefined)
}

async function hold(order: WatchdogOrder): Promise<void> {
  const cancel = new AbortController()
  state = { name: 'quiescing', cancel }
  const { quiesce: command, cwd, env, leaseMs, timeoutMs } = order
  try {
    const signal = cancel.signal
    await commandText({ role: 'quiesce', command, cwd, env, timeoutMs: Math.min(leaseMs, timeoutMs), signal })
  } catch (error) {
    const problem = await resume(order, 'the quiesce command failed')
    tell({ failure: describeFailure(error), resumeProblem: problem })
    return // The parent disconnects, or has: that ends this process.
  }
  state = { name: 'held', untilMs: performance.now() + leaseMs }
  setTimeout(() => void end(order, `the lease of ${leaseMs} ms was spent`), leaseMs)
  tell({ held: true })
}

/** Ends the hold, and this process. */
async function end(order: WatchdogOrder, why: string | undefined): Promise<void> {
  const before = state
  if (before.name === 'quiescing') {
    before.cancel.abort(new Error(why))
    return // `hold` sees the abort, and resumes.
  }
  const inTime = before.name === 'held' && performance.now() < before.untilMs
  const unbroken = why === undefined && inTime
  const detail = why ?? (inTime ? undefined : before.name === 'resuming' ? before.detail : 'the lease was spent')
  const problem = await resume(order, detail ?? 'it was resumed already')
  if (why !== undefined && process.connected) return // Kept for the parent, which will ask.
  tell({ unbroken, detail, resumeProblem: problem })
  if (!process.connected) process.exit(0)
}

/** Once, with a few tries. Answers what went wrong, if it did. */
function resume(order: WatchdogOrder, why: string): Promise<string | undefined> {
  if (state.name !== 'resuming') state = { name: 'resuming', detail: why }
  resumed ??= tryResume(order)
  return resumed
}

async function tryResume({ resume: command, cwd, env, timeoutMs }: WatchdogOrder): Promise<string | undefined> {
  let problem: string | undefined
  for (let tries = 0; tries < resumeTries; tries += 1) {
    if (tries > 0) await new Promise((wake) => setTimeout(wake, resumePauseMs))
    try {
      await commandText({ role: 'resume', command, cwd, env, timeoutMs, signal: never })
      return undefined
    } catch (error) {
      problem = describeFailure(error).message
    }
  }
  return problem
}

function isOrder(message: unknown): message is WatchdogOrder {
  return typeof message === 'object' && message !== null && 'order' in message && message.order === 'hold'
}

let order: WatchdogOrder | undefined
process.on('message', (message) => {
  if (isOrder(message)) {
    order = message
    void hold(message)
  } else if (order !== undefined) {
    void end(order, message === 'cancel' ? 'it was cancelled' : undefined)
  }
})
process.on('disconnect', () => {
  if (order === undefined) process.exit(0)
  else if (state.name === 'quiescing') state.cancel.abort(new Error('the parent has ended'))
  else void end(order, 'the process that asked for the hold ended')
})
