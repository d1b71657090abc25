/** Checks on the arguments of `stillpoint vault`: addresses, sizes, users. */
import { join, resolve } from 'node:path'
import { InvalidArgumentError } from 'commander'
import type { Address } from '../vault/start-vault.ts'
import { labelProblem, userNameProblem, usersFileName } from '../vault/user-names.ts'

/** `127.0.0.1:8000`, `[::1]:8000`, `backup.example.org:443`. */
export function addressArgument(text: string): Address {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (match === null || port > 65_535) {
    throw new InvalidArgumentError('Give a host and a port, such as "127.0.0.1:8000" or "[::1]:8000".')
  }
  return { host: match[1] ?? match[2] ?? '', port }
}

const unitBytes: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 }

/** As restic writes sizes: `500M` are 500 · 2^20 bytes. */
export function sizeArgument(text: string): number {
  const match = /^(\d{1,12})([KMGT]?)(?:i?B)?$/.exec(text)
  const bytes = Number(match?.[1]) * (unitBytes[match?.[2] ?? ''] ?? Number.NaN)
  if (Number.isSafeInteger(bytes)) return bytes
  throw new InvalidArgumentError('Give a number of bytes, or one with K, M, G or T for powers of 1024, such as "500G".')
}

export function userArgument(text: string): string {
  const problem = userNameProblem(text)
  if (problem !== undefined) throw new InvalidArgumentError(problem)
  return text
}

export function labelArgument(text: string): string {
  const problem = labelProblem(text)
  if (problem !== undefined) throw new InvalidArgumentError(problem)
  return text
}

export interface PlaceOptions {
  readonly data: string
  readonly users?: string
}

export interface VaultPlace {
  readonly root: string
  readonly usersFile: string
}

export function vaultPlace(cwd: string, { data, users }: PlaceOptions): VaultPlace {
  const root = resolve(cwd, data)
  return { root, usersFile: users === undefined ? join(root, usersFileName) : resolve(cwd, users) }
}
