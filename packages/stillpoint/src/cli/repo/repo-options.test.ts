/** Each word and option of restic is ours, or docs/repo.md says that it is not there and why. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { describe, expect, test } from 'vitest'
import { repositoryCommand } from './repo.ts'
import { hasRestic } from './repo-workbench.ts'

const document = readFileSync(new URL('../../../../../docs/repo.md', import.meta.url), 'utf8')
const group = await repositoryCommand(async () => {})

/** Rows of the table "Options of restic that are not there": the word, or "all", and the option. */
const leftOut = new Set(
  [...document.matchAll(/^\| `([a-z -]+)`(?:, .*)? \| `(--[a-z-]+)` \|/gm)].map(
    ([, word, option]) => `${word} ${option}`,
  ),
)

/** A word may have words below it (`key list`): all of their options count. */
function optionsOf(command: Command): readonly string[] {
  const own = command.options.flatMap(({ long }) => long ?? [])
  return [...own, ...command.commands.flatMap(optionsOf)]
}

function ours(word: string): readonly string[] | undefined {
  const command = group.commands.find((each) => each.name() === word)
  return command === undefined ? undefined : [...optionsOf(command), '--help']
}

function missing(word: string, options: readonly string[]): readonly string[] {
  const known = ours(word) ?? []
  return options.filter(
    (option) => !known.includes(option) && !leftOut.has(`${word} ${option}`) && !leftOut.has(`all ${option}`),
  )
}

const wordsLeftOut = ['cache', 'generate', 'help', 'migrate', 'mount', 'self-update', 'version']

/** What restic's manual pages have beyond 0.14, up to 0.17; `all`: in front of every word. */
const later: Readonly<Record<string, readonly string[]>> = {
  all: [
    '--retry-lock',
    '--insecure-no-password',
    '--compression',
    '--pack-size',
    '--tls-client-cert',
    '--insecure-tls',
  ],
  backup: ['--group-by', '--no-scan', '--read-concurrency', '--skip-if-unchanged', '--stdin-from-command'],
  copy: ['--from-insecure-no-password'],
  dump: ['--target'],
  find: ['--human-readable'],
  forget: ['--unsafe-allow-remove-all', '--keep-within-hourly'],
  init: ['--from-insecure-no-password'],
  key: ['--new-insecure-no-password'],
  ls: ['--human-readable', '--ncdu'],
  repair: ['--read-all-packs', '--forget', '--dry-run'],
  restore: [
    '--sparse',
    '--overwrite',
    '--delete',
    '--dry-run',
    '--include-file',
    '--iinclude-file',
    '--exclude-file',
    '--iexclude-file',
  ],
  rewrite: [
    '--exclude',
    '--exclude-file',
    '--iexclude',
    '--iexclude-file',
    '--forget',
    '--dry-run',
    '--new-host',
    '--new-time',
    '--snapshot-summary',
  ],
  tag: ['--add', '--remove', '--set'],
}

describe.skipIf(!hasRestic)('the installed restic [needs restic]', () => {
  const help = (...args: readonly string[]) => spawnSync('restic', ['help', ...args], { encoding: 'utf8' }).stdout
  const words = [...help().matchAll(/^ {2}([a-z-]+) {2,}/gm)].map(([, word]) => word ?? '')

  test('has words that are ours, or are named as left out', () => {
    expect(words.length).toBeGreaterThan(20)
    expect(words.filter((word) => ours(word) === undefined).sort()).toEqual(
      wordsLeftOut.filter((word) => words.includes(word)).sort(),
    )
    const section = document.slice(document.indexOf('## What is not there'))
    for (const word of wordsLeftOut.filter((each) => each !== 'help')) expect(section).toContain(`\`${word}\``)
  })

  test.each(words.filter((word) => !wordsLeftOut.includes(word)))('%s has no option that we say nothing of', (word) => {
    const options = [...help(word).matchAll(/^ {2}(?:-\w, | {4})(--[a-z-]+)/gm)].map(([, option]) => option ?? '')
    expect(options.length).toBeGreaterThan(15)
    expect(missing(word, options)).toEqual([])
  })
})

test.each(Object.entries(later))('%s has the options of restic up to 0.17, or says why not', (word, options) => {
  const words =
    word === 'all' ? group.commands.filter((each) => each.commands.length === 0).map((each) => each.name()) : [word]
  for (const each of words) expect([each, ...missing(each, options)]).toEqual([each])
})

test('what is said to be missing is missing', () => {
  expect(missing('backup', ['--exclude', '--of-tomorrow'])).toEqual(['--of-tomorrow'])
  expect(leftOut.size).toBeGreaterThan(1)
  for (const entry of leftOut) {
    const [word = '', option = ''] = entry.split(' ')
    const commands = word === 'all' ? group.commands.map((each) => each.name()) : [word]
    for (const each of commands) expect(ours(each), entry).toEqual(expect.not.arrayContaining([option]))
  }
})
