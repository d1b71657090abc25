/**
 * The program with nothing but `stillpoint repo`: who backs up ten small directories starts it ten times, and should not
 * load servers and database drivers each time.
 */
import { Command } from 'commander'
import { type ProgramStreams, withManners } from '../manners.ts'
import type { RunCommand } from '../session.ts'
import { repositoryCommand } from './repo.ts'

/** For command lines that begin with `repo`. @throws CommanderError as `buildProgram` */
export function buildRepoProgram(run: RunCommand, streams: ProgramStreams): Command {
  return withManners(new Command('stillpoint').addCommand(repositoryCommand(run)), streams)
}
