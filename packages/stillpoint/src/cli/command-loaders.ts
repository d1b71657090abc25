/**
 * Owns loading the modules of commands: of the one that a command line names, or of all, for help and for what names none.
 * A command that is run often, and for little, should not load what the others import.
 */
import type { Command } from 'commander'
import type { RunCommand } from './session.ts'

/** By the word that names the command, in the order of the help. */
export type CommandLoaders = Readonly<Record<string, () => Promise<MakeCommand>>>
type MakeCommand = (run: RunCommand) => Command | Promise<Command>

/** @param word where the name of a command stands, in the arguments; undefined where nothing stands there */
export async function loadCommands(
  loaders: CommandLoaders,
  word: string | undefined,
  run: RunCommand,
): Promise<readonly Command[]> {
  const isName = word !== undefined && Object.hasOwn(loaders, word)
  const wanted = Object.entries(loaders).filter(([name]) => !isName || name === word)
  const makers = await Promise.all(wanted.map(([, load]) => load()))
  return Promise.all(makers.map((make) => make(run)))
}
