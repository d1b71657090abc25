/**
 * `stillpoint init`: finds stores, writes `stillpoint.yaml` and a password, makes the repository.
 *
 * Nothing that exists is overwritten: what a run that was killed has left is completed by the next one.
 */
import { link, open, rm } from 'node:fs/promises'
import { basename, join, relative } from 'node:path'
import { Failure, isFailure } from '@stillpoint/core/kernel'
import { Command, Option } from 'commander'
import { z } from 'zod'
import { configFileName } from '../config/schema.ts'
import { repositoryAddress, type SystemConfig } from '../config/system-config.ts'
import { nameArgument } from './arguments.ts'
import { configTemplate, nameFrom } from './config-template.ts'
import { readConfig } from './context.ts'
import type { FoundStore } from './discover.ts'
import { exitCodes } from './exit-codes.ts'
import { type CommonOptions, withExamples, withJson } from './help.ts'
import { randomHex, randomPassword } from './random-text.ts'
import type { CommandHost, CommandSession, RunCommand } from './session.ts'

const passwordFileName = 'repository-password'

export const initResultSchema = z.looseObject({
  config: z.string().describe('Absolute path of the configuration'),
  configWritten: z.boolean().describe('False where it was there before'),
  found: z.array(z.looseObject({ kind: z.string(), text: z.string() })).describe('The stores that were found'),
  repository: z
    .string()
    .nullable()
    .describe('Absolute path of the repository; null where the configuration is not complete'),
  repositoryMade: z.boolean().describe('False where it was there before'),
})

interface InitOptions extends CommonOptions {
  readonly system?: readonly string[]
}

export function initCommand(run: RunCommand): Command {
  const command = new Command('init')
    .summary('write a first stillpoint.yaml')
    .description(
      'Looks for databases and upload directories on this machine, writes stillpoint.yaml and a password, and makes the repository. Overwrites nothing: with a stillpoint.yaml it only makes the repository that is named there.',
    )
    .addOption(
      new Option('--system <name>', 'name of the system (default: that of the directory)').argParser(nameArgument),
    )
    .action((options: InitOptions) => run(options, (session) => init(session, options)))
  withJson(command)
  return withExamples(command, [
    { line: 'stillpoint init', what: 'in the directory of your application' },
    { line: 'stillpoint init --system shop', what: 'name the system yourself' },
  ])
}

async function init(session: CommandSession, options: InitOptions) {
  const { host, output } = session
  const { discoverStores, foundText, usualSurroundings } = await import('./discover.ts')
  const path = join(host.cwd, configFileName)
  const found: FoundStore[] = []
  let isWritten = false
  if (!(await exists(path))) {
    found.push(...(await discoverStores(usualSurroundings(host.cwd), host.signal)))
    for (const store of found) output.message(`Found ${foundText(store)}`)
    if (found.length === 0) output.message('Found no stores on this machine.')
    const system = options.system?.at(-1) ?? nameFrom(basename(host.cwd), 'system')
    // The password first: a configuration that is there names a password that is there.
    const password = `${randomPassword(host.entropy)}\n`
    if (await writeNew(host, join(host.cwd, passwordFileName), { text: password, mode: 0o600 })) {
      output.message(`Wrote ${passwordFileName}. Keep a copy of it elsewhere: without it no snapshot can be read.`)
    }
    isWritten = await writeNew(host, path, { text: configTemplate({ system, stores: found }), mode: 0o644 })
    output.message(`Wrote ${configFileName}.`)
  } else {
    output.message(`${configFileName} is there already and stays as it is.`)
  }
  const config = await configOrNull(session, isWritten)
  const isMade = config !== null && (await makeRepository(session, config))
  if (config !== null) {
    const address = repositoryAddress(config.repository)
    const shown = (config.repository.path !== undefined && relative(host.cwd, address)) || address
    output.message(isMade ? `Made the repository ${shown}.` : `The repository ${shown} is there already.`)
    output.message('Next: stillpoint doctor, then stillpoint take')
  }
  output.result({
    config: path,
    configWritten: isWritten,
    found: found.map((store) => ({ ...store, text: foundText(store) })),
    repository: config === null ? null : repositoryAddress(config.repository),
    repositoryMade: isMade,
  })
  return exitCodes.succeeded
}

/** A file that we have just written without participants is not complete: that is said, and is no failure. */
async function configOrNull({ host, output }: CommandSession, isOurs: boolean): Promise<SystemConfig | null> {
  try {
    return await readConfig(host, configFileName)
  } catch (error) {
    if (!isOurs || !isFailure(error, 'config_invalid')) throw error
    output.warning(
      `declare your participants in ${configFileName}, then run "stillpoint init" again (${error.message})`,
    )
    return null
  }
}

async function makeRepository({ host, output }: CommandSession, config: SystemConfig): Promise<boolean> {
  const { initConfiguredRepository } = await import('../coordinator/open-repository.ts')
  const { clock, random, entropy, signal } = host
  try {
    await initConfiguredRepository(config, { clock, random, entropy, signal, note: output.warning })
    return true
  } catch (error) {
    if (isFailure(error, 'repository_exists')) return false
    throw error
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await (await open(path, 'r')).close()
    return true
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false
    // Something is there that we cannot read: it is not ours to replace.
    return true
  }
}

/** Answers false where the file is there already. It appears under its name whole, or not at all. */
async function writeNew(host: CommandHost, path: string, content: { readonly text: string; readonly mode: number }) {
  const draft = `${path}.${randomHex(host.entropy, 8)}`
  try {
    const file = await open(draft, 'wx', content.mode)
    try {
      await file.writeFile(content.text)
      await file.sync()
    } finally {
      await file.close()
    }
    // Fails where the name exists; a rename would replace it.
    await link(draft, path)
    return true
  } catch (cause) {
    if (errorCode(cause) === 'EEXIST') return false
    const message = `${path} cannot be written: ${cause instanceof Error ? cause.message : String(cause)}`
    throw new Failure({ code: 'file_unwritable', message, hint: 'Run it in a directory that you may write to.', cause })
  } finally {
    await rm(draft, { force: true })
  }
}

function errorCode(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}
