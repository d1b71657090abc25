/** What could not be done for one path or object while the rest goes on, told as restic does: on stderr, in its shape. */
import type { CommandSession } from '../session.ts'

export interface ToldError {
  readonly message: string
  readonly during: 'archival' | 'restore'
  /** The path. */
  readonly item: string
}

export function tellError({ output }: Pick<CommandSession, 'output'>, { message, during, item }: ToldError): void {
  if (output.json) output.log(JSON.stringify({ message_type: 'error', error: { message }, during, item }))
  else output.warning(message)
}
