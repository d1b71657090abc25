/** What could not be done for one path or object while the rest goes on, told as restic does: on stderr, in its shape. */
import { type ExitCode, exitCodes } from '../exit-codes.ts'
import type { CommandSession } from '../session.ts'

export interface ToldError {
  readonly message: string
  readonly during: 'archival' | 'restore'
  /** The path. */
  readonly item: string
}

/** Last of all, where what was asked for was done but for what was told before: restic's `exit_error`. */
export function tellFailed({ output }: Pick<CommandSession, 'output'>, message: string): ExitCode {
  const code = exitCodes.failed
  if (output.json) output.log(JSON.stringify({ message_type: 'exit_error', code, message }))
  else output.warning(message)
  return code
}

export function tellError({ output }: Pick<CommandSession, 'output'>, { message, during, item }: ToldError): void {
  if (output.json) output.log(JSON.stringify({ message_type: 'error', error: { message }, during, item }))
  else output.warning(message)
}
