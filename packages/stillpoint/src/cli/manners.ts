/** What all commands have in common: help, messages about wrong usage, and that they end by an error, not by exiting. */
import type { Command } from 'commander'
import { commandPath, formatHelp } from './help.ts'

export interface ProgramStreams {
  readonly out: (text: string) => void
  readonly err: (text: string) => void
  readonly outWidth: number
  readonly errWidth: number
}

export const plainStreams: ProgramStreams = { out: () => {}, err: () => {}, outWidth: 80, errWidth: 80 }

/** For the program and all that is below it. */
export function withManners(program: Command, streams: ProgramStreams): Command {
  for (const command of withSubcommands(program)) {
    command
      .exitOverride()
      .helpOption('-h, --help', 'show this help')
      .configureHelp({ formatHelp })
      .configureOutput({
        writeOut: streams.out,
        writeErr: streams.err,
        getOutHelpWidth: () => streams.outWidth,
        getErrHelpWidth: () => streams.errWidth,
        outputError: (text, write) => write(text.replace(/^error: /, 'error[usage]: ')),
      })
      .showHelpAfterError(
        `  See: ${command === program ? 'stillpoint --help' : `stillpoint ${commandPath(command)} --help`}`,
      )
  }
  return program
}

/** A command, and those below it. */
export function withSubcommands(command: Command): readonly Command[] {
  return [command, ...command.commands.flatMap(withSubcommands)]
}
