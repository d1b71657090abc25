/** All commands under one name, with their common manners. */
import { Command } from 'commander'
import { type CommandLoaders, loadCommands } from './command-loaders.ts'
import { withExamples } from './help.ts'
import { type ProgramStreams, plainStreams, withManners, withSubcommands } from './manners.ts'
import type { RunCommand } from './session.ts'

export { type ProgramStreams, plainStreams, withSubcommands }

const loaders: CommandLoaders = {
  demo: async () => (await import('./demo.ts')).demoCommand,
  init: async () => (await import('./init.ts')).initCommand,
  up: async () => (await import('./up.ts')).upCommand,
  take: async () => (await import('./take.ts')).takeCommand,
  list: async () => (await import('./list.ts')).listCommand,
  show: async () => (await import('./show.ts')).showCommand,
  verify: async () => (await import('./verify.ts')).verifyCommand,
  diff: async () => (await import('./diff.ts')).diffCommand,
  restore: async () => (await import('./restore.ts')).restoreCommand,
  delete: async () => (await import('./delete.ts')).deleteCommand,
  doctor: async () => (await import('./doctor.ts')).doctorCommand,
  repo: async () => (await import('./repo/repo.ts')).repositoryCommand,
  vault: async () => (await import('./vault.ts')).vaultCommand,
}

/**
 * `word` is the first of the command line: where it names a command, no other is loaded.
 * @throws CommanderError on wrong usage, after it has been said; and after help and version were shown
 */
export async function buildProgram(
  run: RunCommand,
  streams: ProgramStreams,
  { version, word }: { readonly version: string; readonly word?: string | undefined },
): Promise<Command> {
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
  for (const command of await loadCommands(loaders, word, run)) program.addCommand(command)
  return withManners(program, streams)
}
