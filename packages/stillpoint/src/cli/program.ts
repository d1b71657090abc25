/** All commands under one name, with their common manners. */
import { Command } from 'commander'
import { deleteCommand } from './delete.ts'
import { demoCommand } from './demo.ts'
import { diffCommand } from './diff.ts'
import { doctorCommand } from './doctor.ts'
import { withExamples } from './help.ts'
import { initCommand } from './init.ts'
import { listCommand } from './list.ts'
import { type ProgramStreams, plainStreams, withManners, withSubcommands } from './manners.ts'
import { repositoryCommand } from './repo/repo.ts'
import { restoreCommand } from './restore.ts'
import type { RunCommand } from './session.ts'
import { showCommand } from './show.ts'
import { takeCommand } from './take.ts'
import { upCommand } from './up.ts'
import { vaultCommand } from './vault.ts'
import { verifyCommand } from './verify.ts'

export { type ProgramStreams, plainStreams, withSubcommands }

/** @throws CommanderError on wrong usage, after it has been said; and after help and version were shown */
export function buildProgram(run: RunCommand, version: string, streams: ProgramStreams): Command {
  const program = new Command('stillpoint')
    .description('Takes one consistent snapshot of a whole running system, and brings the system back from it.')
    .version(version, '-V, --version', 'show the version')
    .helpCommand('help [command]', 'show the help of a command')
  withExamples(program, [
    { line: 'stillpoint demo', what: 'see it work, with nothing installed' },
    { line: 'stillpoint init', what: 'write a first stillpoint.yaml for your stores' },
    { line: 'stillpoint take', what: 'take a snapshot' },
    { line: 'stillpoint restore latest --to staging.yaml', what: 'bring it back, elsewhere' },
  ])
  const commands = [
    demoCommand(run),
    initCommand(run),
    upCommand(run),
    takeCommand(run),
    listCommand(run),
    showCommand(run),
    verifyCommand(run),
    diffCommand(run),
    restoreCommand(run),
    deleteCommand(run),
    doctorCommand(run),
    repositoryCommand(run),
    vaultCommand(run),
  ]
  for (const command of commands) program.addCommand(command)
  return withManners(program, streams)
}
