/**
 * What can be checked of the specification without TLC: that its names, its models, its page and the code that it
 * speaks of fit together. TLC itself runs with `npm run spec` (spec/README.md says how), never as a test that is skipped.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { exportTrace } from '../packages/core/src/cut/testing/trace-export.ts'
import { collectTraces, traceModule, traceShapes } from '../spec/trace-module.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const read = (path: string): string => readFileSync(join(root, 'spec', path), 'utf8')

const cut = read('Cut.tla')
const readme = read('README.md')
const modules = `${cut}\n${read('CutModels.tla')}`
const configs = readdirSync(join(root, 'spec'))
  .filter((file) => file.endsWith('.cfg'))
  .map((file) => ({ name: file.replace(/^Cut_|\.cfg$/g, ''), text: read(file) }))

/** TLA+ without comments. */
function codeOf(text: string): string {
  return text.replace(/\(\*[\s\S]*?\*\)/g, '').replace(/\\\*.*$/gm, '')
}

const defined = new Set(
  [...codeOf(modules).matchAll(/^([A-Za-z]\w*)(?:\([^)\n]*\))? ==/gm)].map(([, name]) => name ?? ''),
)
const constants = new Set(
  (/CONSTANTS\n([\s\S]*?)\nKeeps/.exec(cut)?.[1] ?? '')
    .split('\n')
    .flatMap((line) => /^ {2}(\w+)/.exec(line)?.[1] ?? []),
)

/** The names below a keyword of a configuration. */
function namesBelow(text: string, keyword: RegExp): readonly string[] {
  const found = new RegExp(`^(?:${keyword.source})\\s+((?:.|\\n {2})*)`, 'm').exec(text)?.[1] ?? ''
  return found.split(/\s+/).filter((name) => name !== '')
}

interface Config {
  readonly assigned: readonly string[]
  readonly substituted: readonly string[]
  readonly checked: readonly string[]
  readonly faults: readonly string[]
}

function parse(text: string): Config {
  const body = codeOf(text)
  return {
    assigned: [...body.matchAll(/^ {2}(\w+) (?:=|<-)/gm)].map(([, name]) => name ?? ''),
    substituted: [...body.matchAll(/<- (\w+)/g)].map(([, name]) => name ?? ''),
    checked: [
      ...namesBelow(body, /INVARIANTS/),
      ...namesBelow(body, /PROPERTIES/),
      ...namesBelow(body, /CONSTRAINTS?/),
      ...namesBelow(body, /SPECIFICATION/),
      ...namesBelow(body, /SYMMETRY/),
      ...namesBelow(body, /VIEW/),
    ],
    faults: [...(/Faults = \{(.*)\}/.exec(body)?.[1] ?? '').matchAll(/"(\w+)"/g)].map(([, name]) => name ?? ''),
  }
}

describe('the specification', () => {
  test('each of C1–C10 is defined and checked by a model', () => {
    const checked = new Set(configs.flatMap(({ text }) => parse(text).checked))
    for (let number = 1; number <= 10; number += 1) {
      const name = `C${number}`
      expect({ name, isDefined: defined.has(name), isChecked: checked.has(name) }).toEqual({
        name,
        isDefined: true,
        isChecked: true,
      })
    }
    expect(checked.has('Closed')).toBe(true)
  })

  test('no action of the protocol reads a history variable', () => {
    const history = /\b(cutKnow|gSent|gGot|IsMarked)\b/
    const guards = codeOf(cut.slice(cut.indexOf('HoldProcess(p) =='), cut.indexOf('Life ==')))
      .split('\n')
      .filter((line) => !/UNCHANGED|\w+' = |EXCEPT/.test(line))
    expect(guards.filter((line) => history.test(line))).toEqual([])
    expect(history.test('/\\ cutKnow[x] = {}')).toBe(true)
  })

  test('every rule that a model switches off is one that the specification asks for', () => {
    const rules = new Set([...cut.matchAll(/Keeps\("(\w+)"\)/g)].map(([, name]) => name))
    for (const { name, text } of configs) {
      for (const fault of parse(text).faults)
        expect({ name, fault, isRule: rules.has(fault) }).toMatchObject({ isRule: true })
    }
    const switched = new Set(configs.flatMap(({ text }) => parse(text).faults))
    expect([...rules].filter((rule) => rule !== undefined && !switched.has(rule))).toEqual([])
  })
})

describe('the models', () => {
  test.each(configs)('$name assigns every constant, and names only what is there', ({ text }) => {
    const { assigned, substituted, checked } = parse(text)
    expect([...assigned].sort()).toEqual([...constants].sort())
    expect([...substituted, ...checked].filter((name) => !defined.has(name))).toEqual([])
    expect(checked.length).toBeGreaterThan(1)
  })

  test.each(configs)('$name is on the page, with how it was run and with its bounds', ({ name }) => {
    const rows = [...readme.matchAll(new RegExp(`^\\| ${name} \\|.*\\|$`, 'gm'))].map(([row]) => row)
    expect(rows).toHaveLength(2)
    expect(rows[0]).toMatch(/\| (holds|violates \w+) \| \d+ \| \d+ \| \d+ \| \d+ s \|$/)
  })

  test('those that must fail say so, switch something off, and have a counterexample; the others do not', () => {
    for (const { name, text } of configs) {
      const { faults } = parse(text)
      const [violated = ''] = [...namesBelow(codeOf(text), /INVARIANTS/), ...namesBelow(codeOf(text), /PROPERTIES/)]
      const mustFail = text.startsWith('\\* Fails on purpose')
      const path = join('counterexamples', `${name}.txt`)
      const hasExample = existsSync(join(root, 'spec', path))
      expect({ name, mustFail, hasExample, switchesOff: faults.length > 0 }).toEqual({
        name,
        mustFail: name.startsWith('No'),
        hasExample: mustFail,
        switchesOff: mustFail,
      })
      if (mustFail) expect(read(path)).toMatch(new RegExp(`(Invariant|property) ${violated} (is|was) violated`))
    }
  })

  test('a name that is not there is found', () => {
    expect(parse('INVARIANTS\n  C1 C11\n').checked.filter((name) => !defined.has(name))).toEqual(['C11'])
    expect(constants.has('Faults') && constants.has('Procs') && !constants.has('Keeps')).toBe(true)
  })
})

describe('the page', () => {
  const section = readme.slice(readme.indexOf('## From the specification'), readme.indexOf('## Traces'))
  const rows = section.split('\n').filter((line) => line.startsWith('| `'))

  test('every action that it maps is defined, and every function that it maps to is in its file', () => {
    expect(rows.length).toBeGreaterThan(15)
    for (const row of rows) {
      const [, actions = '', code = ''] = row.split('|')
      for (const [, action = ''] of actions.matchAll(/`(\w+)`/g)) expect(defined).toContain(action)
      const places = [...code.matchAll(/((?:`\w+`(?:, )?)+) in `([^`]+)`/g)]
      expect(places.length).toBeGreaterThan(0)
      for (const [, names = '', file = ''] of places) {
        const text = readFileSync(join(root, file), 'utf8')
        for (const [, name = ''] of names.matchAll(/`(\w+)`/g)) {
          expect({ file, name, isThere: new RegExp(`function ${name}\\b`).test(text) }).toMatchObject({ isThere: true })
        }
      }
    }
  })

  test('every step of the protocol is mapped', () => {
    const next = codeOf(cut.slice(cut.indexOf('Life =='), cut.indexOf('Next ==')))
    const actions = new Set([...next.matchAll(/\b([A-Z]\w+)(?:\([cpsxo](?:, [msxp])?\)|$)/gm)].map(([, name]) => name))
    // Ordinary life and faults have no function of ours.
    const ours = [...actions].filter(
      (name) => !/^(Write|Outsider\w+|Duplicate|LoseMessage|RestoreInPlace|Deliverable|InFlight)$/.test(name ?? ''),
    )
    expect(ours.length).toBeGreaterThan(20)
    expect(ours.filter((name) => !section.includes(`\`${name}\``))).toEqual([])
  })
})

describe('npm run spec', () => {
  test('says where TLC is to be had when it is not here', () => {
    const { TLA2TOOLS: _, ...env } = process.env
    const { status, stderr } = spawnSync(process.execPath, [join(root, 'scripts', 'run-spec.ts')], {
      env,
      encoding: 'utf8',
    })
    expect(stderr).toContain('https://github.com/tlaplus/tlaplus/releases')
    expect(status).toBe(3)
  })

  test('refuses a model that is not there', () => {
    const args = [join(root, 'scripts', 'run-spec.ts'), 'Nonesuch']
    const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
    expect(stderr).toContain('Nonesuch')
    expect(status).toBe(2)
  })
})

describe('traces', () => {
  test.each(traceShapes)(
    '$name: a seed gives the same trace each time, from a plan to an outcome',
    ({ world, cuts }) => {
      const once = exportTrace({ ...world, seed: 3 }, cuts)
      expect(exportTrace({ ...world, seed: 3 }, cuts)).toEqual(once)
      const kinds = once.steps.map(({ e }) => e)
      expect(kinds.filter((e) => e === 'planned')).toHaveLength(cuts)
      expect(kinds.filter((e) => e === 'sealed' || e === 'aborted')).toHaveLength(cuts)
      expect(once.outcomes).toHaveLength(cuts)
    },
  )

  test('every process of a sealed cut holds, marks, resumes and is captured, in that order', () => {
    const { steps, outcomes } = exportTrace({ processes: 2, fifo: true, stores: [], seed: 1 })
    expect(outcomes).toEqual(['sealed'])
    for (const name of ['p0', 'p1']) {
      const own = steps.filter((step) => 'x' in step && step.x === name && step.e !== 'left').map(({ e }) => e)
      expect(own).toEqual(['held', 'marked', 'resumed', 'captured'])
    }
  })

  test('the specification knows every kind of step', () => {
    const known = new Set([...read('CutTrace.tla').matchAll(/s\.e = "(\w+)"/g)].map(([, kind]) => kind))
    for (const shape of traceShapes) {
      const { traces } = collectTraces(shape, 3)
      expect(traces.length).toBeGreaterThan(0)
      const kinds = new Set(traces.flatMap(({ trace }) => trace.steps.map(({ e }) => e)))
      expect([...kinds].filter((kind) => !known.has(kind))).toEqual([])
      expect(
        traceModule(
          'Trace',
          shape,
          traces.map(({ trace }) => trace),
        ).tla,
      ).toMatch(/^---- MODULE Trace ----\nEXTENDS CutTrace\n/)
    }
  })
})
