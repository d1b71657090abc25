/** `stillpoint vault`: a REST server for repositories, to which restic and Stillpoint back up. */
import { resolve } from 'node:path'
import { Failure } from '@stillpoint/core/kernel'
import { Command, Option } from 'commander'
import { z } from 'zod'
import type { Address, VaultOptions } from '../vault/start-vault.ts'
import { exitCodes } from './exit-codes.ts'
import { type CommonOptions, withExamples, withJson } from './help.ts'
import { countText } from './quantities.ts'
import type { CommandSession, RunCommand } from './session.ts'
import { writeLog } from './up.ts'
import { addressArgument, type PlaceOptions, sizeArgument, vaultPlace } from './vault-arguments.ts'
import { vaultTokenCommand, vaultUserCommand, withPlace } from './vault-users.ts'

export const vaultServeResultSchema = z.looseObject({
  url: z.string().describe('Base URL: repositories are at rest:URL/USER/ and below'),
  metricsUrl: z.string().nullable(),
  data: z.string().describe('Absolute path of the directory'),
  pid: z.int(),
})

interface ServeOptions extends PlaceOptions, CommonOptions {
  readonly listen: Address
  readonly tlsCert?: string
  readonly tlsKey?: string
  readonly appendOnly?: true
  readonly quota?: number
  readonly minFree: number
  readonly metrics?: Address
  readonly insecureHttp?: true
}

const defaultPort = 8000

export function vaultCommand(run: RunCommand): Command {
  return new Command('vault')
    .summary('serve repositories to restic and Stillpoint')
    .description(
      "A server for repositories that speaks restic's REST protocol: users, tokens, quotas, append-only access, TLS, metrics.",
    )
    .addCommand(serveCommand(run))
    .addCommand(vaultUserCommand(run))
    .addCommand(vaultTokenCommand(run))
}

function serveCommand(run: RunCommand): Command {
  const listen = new Option('--listen <address>', 'host and port to listen on').argParser(addressArgument)
  const command = new Command('serve')
    .summary('run the server')
    .description(
      'Runs the server in the foreground. Each user has repositories of their own, at /USER/ and below it. Ctrl-C lets what runs end, and stops it.',
    )
    .addOption(listen.default({ host: '127.0.0.1', port: defaultPort }, `127.0.0.1:${defaultPort}`))
    .addOption(
      new Option('--tls-cert <file>', 'certificate with its chain, PEM; a new one is taken up within a minute'),
    )
    .addOption(new Option('--tls-key <file>', 'key of the certificate, PEM'))
    .addOption(new Option('--append-only', 'nobody may delete anything but locks'))
    .addOption(new Option('--quota <size>', 'how much a user without a quota may store').argParser(sizeArgument))
    .addOption(
      new Option('--min-free <size>', 'refuse uploads that leave less on the disk')
        .argParser(sizeArgument)
        .default(256 * 1024 * 1024, '256M'),
    )
    .addOption(
      new Option('--metrics <address>', 'serve metrics for Prometheus there, at /metrics').argParser(addressArgument),
    )
    .addOption(new Option('--insecure-http', 'listen beyond this machine without TLS'))
    .action((options: ServeOptions) => run(options, (session) => serve(session, options)))
  withJson(withPlace(command))
  return withExamples(command, [
    { line: 'stillpoint vault serve --data /srv/vault', what: 'on this machine only, at port 8000' },
    {
      line: 'stillpoint vault serve --data /srv/vault --listen 0.0.0.0:8000 --tls-cert cert.pem --tls-key key.pem',
      what: 'for other machines',
    },
  ])
}

function tlsFiles(cwd: string, { tlsCert, tlsKey }: ServeOptions): VaultOptions['tls'] {
  if (tlsCert === undefined && tlsKey === undefined) return undefined
  if (tlsCert !== undefined && tlsKey !== undefined) {
    return { certFile: resolve(cwd, tlsCert), keyFile: resolve(cwd, tlsKey) }
  }
  const message = '--tls-cert and --tls-key belong together, and one is missing'
  throw new Failure({ code: 'usage', message, hint: 'Give both. One file with both may be named twice.' })
}

async function serve({ host, output }: CommandSession, options: ServeOptions) {
  const { root, usersFile } = vaultPlace(host.cwd, options)
  const { clock, signal } = host
  const tls = tlsFiles(host.cwd, options)
  const { startVault } = await import('../vault/start-vault.ts')
  const { readUsersFile } = await import('../vault/users-file.ts')
  signal.throwIfAborted()
  const vaultOptions: VaultOptions = {
    root,
    usersFile,
    listen: options.listen,
    ...(tls === undefined ? {} : { tls }),
    ...(options.metrics === undefined ? {} : { metrics: options.metrics }),
    ...(options.quota === undefined ? {} : { quotaBytes: options.quota }),
    appendOnly: options.appendOnly === true,
    freeBytesMin: options.minFree,
    insecureHttp: options.insecureHttp === true,
    clock,
    log: (entry) => writeLog(output, entry, new Date(clock.wallMs()).toISOString()),
  }
  const vault = await startVault(vaultOptions)
  try {
    output.result({ url: vault.url, metricsUrl: vault.metricsUrl, data: root, pid: process.pid })
    const users = new Set((await readUsersFile(usersFile)).map(({ user }) => user)).size
    output.lines([
      `The vault ${root} is served at ${vault.url}`,
      `  users   ${countText(users, 'user')} in ${usersFile}`,
      ...(vault.metricsUrl === null ? [] : [`  metrics ${vault.metricsUrl}`]),
    ])
    output.message('Stop it with Ctrl-C.')
    await new Promise<void>((stop) => {
      if (signal.aborted) stop()
      else signal.addEventListener('abort', () => stop(), { once: true })
    })
  } finally {
    await vault.close()
  }
  output.message('Stopped.')
  return exitCodes.succeeded
}
