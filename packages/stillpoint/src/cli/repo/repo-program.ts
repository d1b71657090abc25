/**
 * The program with nothing but `stillpoint repo`: who backs up ten small directories starts it ten times, and should not
 * load servers and database drivers each time.
 */
import { setFlagsFromString } from 'node:v8'
import { Command } from 'commander'
import { type ProgramStreams, withManners } from '../manners.ts'
import type { RunCommand } from '../session.ts'
import { repositoryCommand } from './repo.ts'

const heapFlags = ['--heap-growing-percent=25', '--scavenger-max-new-space-capacity-mb=4']

/** For command lines that begin with `repo`; `word` is the next one. @throws CommanderError as `buildProgram` */
export async function buildRepoProgram(
  run: RunCommand,
  streams: ProgramStreams,
  word: string | undefined,
): Promise<Command> {
  // A backup makes much that is soon forgotten, and V8 would let its heap grow to several times of what is in use. What
  // this saves and costs: docs/benchmarks.md.
  for (const flag of heapFlags) setFlagsFromString(flag)
  return withManners(new Command('stillpoint').addCommand(await repositoryCommand(run, word)), streams)
}
