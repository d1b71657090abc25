/** Each word of restic is ours, with all its options, or docs/repo.md says that it is not there. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { restics } from '@stillpoint/testbed'
import type { Command } from 'commander'
import { describe, expect, test } from 'vitest'
import { repositoryCommand } from './repo.ts'

const document = readFileSync(new URL('../../../../../docs/repo.md', import.meta.url), 'utf8')
const group = await repositoryCommand(async () => {})

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
  return options.filter((option) => !known.includes(option))
}

const wordsLeftOut = ['features', 'generate', 'help', 'migrate', 'mount', 'options', 'self-update']

/** What restic 0.19 has beyond 0.18. */
const later: Readonly<Record<string, readonly string[]>> = {
  check: ['--host', '--path', '--tag'],
  restore: ['--ownership-by-name'],
  rewrite: ['--include', '--iinclude', '--include-file', '--iinclude-file'],
}

for (const restic of restics) {
  describe.skipIf(!restic.isHere)(`${restic.name} [needs ${restic.name}]`, () => {
    const help = (...args: readonly string[]) =>
      restic.isHere ? spawnSync(restic.command, ['help', ...args], { encoding: 'utf8' }).stdout : ''
    const wordsIn = (text: string) => [...text.matchAll(/^ {2}([a-z-]+) {2,}/gm)].map(([, word]) => word ?? '')
    const words = wordsIn(help())
    const optionsIn = (text: string) =>
      [...text.matchAll(/^ {2}(?:-\w, | {4})(--[a-z-]+)/gm)].map(([, option]) => option ?? '')

    test('has words that are ours, or are named as left out', () => {
      expect(words.length).toBeGreaterThan(20)
      expect(words.filter((word) => ours(word) === undefined).sort()).toEqual(
        wordsLeftOut.filter((word) => words.includes(word)).sort(),
      )
      const section = document.slice(document.indexOf('## What is not there'))
      for (const word of wordsLeftOut.filter((each) => each !== 'help')) expect(section).toContain(`\`${word}\``)
    })

    test.each(words.filter((word) => !wordsLeftOut.includes(word)))('%s has no option that we have not', (word) => {
      const text = help(word)
      // `key add`, `repair packs`: what stands in the help of a word that has words below it is not all.
      const below = wordsIn(text.slice(text.indexOf('Available Commands:'))).filter((each) => each !== 'help')
      const all = text.includes('Available Commands:') ? [text, ...below.map((each) => help(word, each))] : [text]
      const options = [...new Set(all.flatMap(optionsIn))]
      expect(options.length).toBeGreaterThan(15)
      expect(missing(word, options)).toEqual([])
    })
  })
}

test.each(Object.entries(later))('%s has the options of restic 0.19', (word, options) => {
  expect([word, ...missing(word, options)]).toEqual([word])
})
