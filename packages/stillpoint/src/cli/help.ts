/**
 * Help texts: what it does, examples first, then usage and options.
 *
 * Owns: the order and the examples of each command; docs/cli.md is generated from the same.
 */
import { type Command, type Help, Option } from 'commander'

export interface Example {
  readonly line: string
  readonly what: string
}

const examplesOf = new WeakMap<Command, readonly Example[]>()

export function withExamples(command: Command, examples: readonly Example[]): Command {
  examplesOf.set(command, examples)
  return command
}

export function examplesFor(command: Command): readonly Example[] {
  return examplesOf.get(command) ?? []
}

/** The words after `stillpoint`: `vault user add`. */
export function commandPath(command: Command): string {
  const names: string[] = []
  for (let each: Command | null = command; each?.parent != null; each = each.parent) names.unshift(each.name())
  return names.join(' ')
}

export function formatHelp(command: Command, helper: Help): string {
  const width = helper.helpWidth ?? 80
  const terms = [
    ...helper.visibleArguments(command).map((argument) => helper.argumentTerm(argument)),
    ...helper.visibleOptions(command).map((option) => helper.optionTerm(option)),
    ...helper.visibleCommands(command).map((each) => helper.subcommandTerm(each)),
  ]
  const termWidth = Math.max(0, ...terms.map((term) => term.length))
  const item = (term: string, description: string) => helper.formatItem(term, termWidth, description, helper)
  const section = (title: string, lines: readonly string[]) => (lines.length === 0 ? [] : ['', `${title}:`, ...lines])
  const examples = examplesFor(command)
  const lineWidth = Math.max(0, ...examples.map(({ line }) => line.length))
  return [
    helper.boxWrap(helper.commandDescription(command), width),
    ...section(
      'Examples',
      examples.map(({ line, what }) => (what === '' ? `  ${line}` : `  ${line.padEnd(lineWidth)}  # ${what}`)),
    ),
    ...section('Usage', [`  ${helper.commandUsage(command)}`]),
    ...section(
      'Arguments',
      helper
        .visibleArguments(command)
        .map((argument) => item(helper.argumentTerm(argument), helper.argumentDescription(argument))),
    ),
    ...section(
      'Options',
      helper.visibleOptions(command).map((option) => item(helper.optionTerm(option), helper.optionDescription(option))),
    ),
    ...section(
      'Commands',
      helper
        .visibleCommands(command)
        .map((each) => item(helper.subcommandTerm(each), helper.subcommandDescription(each))),
    ),
    '',
    command.parent === null
      ? 'Documentation: docs/cli.md, docs/configuration.md, docs/errors.md'
      : `Documentation: docs/cli.md#${commandPath(command).replaceAll(' ', '-')}`,
    '',
  ].join('\n')
}

/** The options that every command has. */
export interface CommonOptions {
  readonly json?: true
}

export interface ConfigOptions extends CommonOptions {
  readonly config: string
}

export interface ProgressFlags {
  readonly verbose?: true
}

export function withJson(command: Command): Command {
  return command.addOption(new Option('--json', 'print one JSON object on stdout, errors as JSON on stderr'))
}

export function withConfig(command: Command): Command {
  const option = new Option('-c, --config <file>', 'the configuration of the system').default('stillpoint.yaml')
  return command.addOption(option)
}

export function withVerbose(command: Command): Command {
  return command.addOption(new Option('-v, --verbose', 'say each phase, also where stderr is no terminal'))
}
