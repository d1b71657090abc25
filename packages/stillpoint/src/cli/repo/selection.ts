/** Options that choose snapshots, as restic's: `--host`, `--tag`, `--path`. */
import { resolve } from 'node:path'
import type { SnapshotSelection } from '@stillpoint/repository'
import { type Command, Option } from 'commander'
import type { CommandHost } from '../session.ts'

export interface SelectionOptions {
  readonly host?: readonly string[]
  readonly tag?: readonly (readonly string[])[]
  readonly path?: readonly string[]
}

export function repeated(text: string, earlier: readonly string[] = []): readonly string[] {
  return [...earlier, text]
}

/** `a,b`: both; several options: one of them. */
export function tagLists(text: string, earlier: readonly (readonly string[])[] = []): readonly (readonly string[])[] {
  return [...earlier, text.split(',').filter((tag) => tag !== '')]
}

/** @param options `hostFlag` where the short one has another meaning */
export function withSelection(command: Command, { hostFlag = '-H, --host' } = {}): Command {
  return command
    .addOption(new Option(`${hostFlag} <host>`, 'only snapshots of this host; repeatable').argParser(repeated))
    .addOption(new Option('--tag <tags>', 'only snapshots with all of these tags; repeatable').argParser(tagLists))
    .addOption(new Option('--path <path>', 'only snapshots that include this path; repeatable').argParser(repeated))
}

/** For commands that have a host, as restic since 0.17. */
export function hostDefault(): string | undefined {
  const { RESTIC_HOST: name } = process.env
  return name === undefined || name === '' ? undefined : name
}

export function selectionOf(host: CommandHost, options: SelectionOptions): SnapshotSelection {
  return {
    hostnames: (options.host ?? [hostDefault() ?? '']).filter((name) => name !== ''),
    tags: options.tag ?? [],
    paths: (options.path ?? []).map((path) => resolve(host.cwd, path)),
  }
}
