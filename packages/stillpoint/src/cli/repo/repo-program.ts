/**
 * The program with nothing but `stillpoint repo`: who backs up ten small directories starts it ten times, and should not
 * load servers and database drivers each time.
 */
import { Command } from 'commander'
import { type ProgramStreams, withManners } from '../manners.ts'
import type { RunCommand } from '../session.ts'
import { limitHeap } from './limit-heap.ts'
import { repositoryCommand } from './repo.ts'

/** For command lines that begin with `repo`; `word` is the next one. @throws CommanderError as `buildProgram` */
export async function buildRepoProgram(
  run: RunCommand,
  streams: ProgramStreams,
  word: string | undefined,
): Promise<Command> {
  limitHeap()
  return withManners(new Command('stillpoint').addCommand(await repositoryCommand(run, word)), streams)
}
