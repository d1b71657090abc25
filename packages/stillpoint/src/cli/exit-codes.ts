/**
 * What the command answers to the shell: restic's codes where they fit, ours from 20 on. docs/cli.md lists them.
 *
 * Owns: the codes, and which failure ends with which. An unknown code is to be treated as a failure.
 */
import { isFailure } from '@stillpoint/core/kernel'

export const exitCodes = {
  succeeded: 0,
  failed: 1,
  usage: 2,
  partial: 3,
  repositoryAbsent: 10,
  locked: 11,
  passwordWrong: 12,
  inconsistent: 20,
  participantTimedOut: 21,
  verificationFailed: 22,
  interrupted: 130,
  terminated: 143,
} as const

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes]

/** For docs/cli.md, in the order of the numbers. */
export const exitCodeMeanings: Readonly<Record<ExitCode, string>> = {
  0: 'It worked.',
  1: 'It failed. The message on stderr says why and what to do.',
  2: 'Wrong arguments or a wrong configuration. Nothing was begun.',
  3: 'Done in part: the snapshot was sealed but is not consistent (`--allow-inconsistent`), or the restore breaks links to what it left out.',
  10: 'There is no repository.',
  11: 'Somebody else is at work: the repository is locked, or the system is busy.',
  12: 'The password of the repository is wrong.',
  20: 'The cut was not consistent, and nothing was sealed.',
  21: 'A participant did not answer in time, and nothing was sealed.',
  22: 'A check failed: the snapshot is damaged, or what was restored differs from it.',
  130: 'Interrupted (Ctrl-C). Every hold was released.',
  143: 'Terminated (SIGTERM). Every hold was released.',
}

const codesByFailure: Readonly<Record<string, ExitCode>> = {
  usage: exitCodes.usage,
  config_absent: exitCodes.usage,
  config_invalid: exitCodes.usage,
  config_not_text: exitCodes.usage,
  config_too_large: exitCodes.usage,
  config_unreadable: exitCodes.usage,
  name_invalid: exitCodes.usage,
  options_invalid: exitCodes.usage,
  repository_password_missing: exitCodes.usage,
  source_unknown: exitCodes.usage,
  tag_invalid: exitCodes.usage,
  repository_absent: exitCodes.repositoryAbsent,
  repository_locked: exitCodes.locked,
  system_busy: exitCodes.locked,
  password_wrong: exitCodes.passwordWrong,
  cut_inconsistent: exitCodes.inconsistent,
  participant_timed_out: exitCodes.participantTimedOut,
  object_damaged: exitCodes.verificationFailed,
  part_damaged: exitCodes.verificationFailed,
  rdb_damaged: exitCodes.verificationFailed,
  snapshot_damaged: exitCodes.verificationFailed,
  tree_unsafe: exitCodes.verificationFailed,
  verification_failed: exitCodes.verificationFailed,
  interrupted: exitCodes.interrupted,
  terminated: exitCodes.terminated,
}

/** The exit code of a failed command. A failure that another one caused keeps its own code. */
export function exitCodeOf(error: unknown): ExitCode {
  return isFailure(error) ? (codesByFailure[error.code] ?? exitCodes.failed) : exitCodes.failed
}
