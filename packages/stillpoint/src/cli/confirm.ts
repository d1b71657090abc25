/** Asking before something is destroyed. Without a terminal nobody can be asked: then `--yes` has to be there. */
import { Failure } from '@stillpoint/core/kernel'
import type { CommandSession } from './session.ts'

export interface Confirmation {
  /** What will happen, as a sentence. */
  readonly what: string
  /** What has to be typed. */
  readonly word: string
}

/** @throws Failure `not_confirmed`; the signal's reason when interrupted */
export async function confirm({ host, output }: CommandSession, { what, word }: Confirmation): Promise<void> {
  output.warning(what)
  const answer = await output.terminal.ask(`Type ${JSON.stringify(word)} to go on: `, host.signal)
  if (answer?.trim() === word) return
  throw new Failure({
    code: 'not_confirmed',
    message: answer === null ? 'Nobody can be asked: this is no terminal' : 'Not confirmed; nothing was changed',
    hint: answer === null ? 'Give --yes to go on without being asked.' : `To go on, type exactly: ${word}`,
  })
}
