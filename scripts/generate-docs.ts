/**
 * Writes what documents can be generated from the code: docs/configuration.md from the schemas of the configuration
 * and of the sources, the reference in docs/cli.md from the commands, docs/schemas/ from the schemas of `--json`.
 *
 * `node scripts/generate-docs.ts` writes; `--check` writes nothing and fails where a document differs from the code.
 */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { exitCodeMeanings } from '../packages/stillpoint/src/cli/exit-codes.ts'
import { commandPath, examplesFor } from '../packages/stillpoint/src/cli/help.ts'
import { buildProgram, plainStreams, withSubcommands } from '../packages/stillpoint/src/cli/program.ts'
import { resultSchemas } from '../packages/stillpoint/src/cli/result-schemas.ts'
import { durationText } from '../packages/stillpoint/src/config/duration.ts'
import { configSchema, processSchema, storeSchema } from '../packages/stillpoint/src/config/schema.ts'
import { sources } from '../packages/stillpoint/src/sources/registry.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const beginMark = '<!-- generated: begin (npm run docs) -->'
const endMark = '<!-- generated: end -->'

interface SchemaNode {
  readonly type?: string | readonly string[]
  readonly description?: string
  readonly default?: unknown
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly properties?: Readonly<Record<string, SchemaNode>>
  readonly required?: readonly string[]
  readonly items?: SchemaNode
  readonly anyOf?: readonly SchemaNode[]
  readonly allOf?: readonly SchemaNode[]
  readonly minimum?: number
  readonly maximum?: number
}

/** The parts of JSON Schema that the tables show; whatever else is there is left out. */
const nodeSchema: z.ZodType<SchemaNode> = z.lazy(() =>
  z.looseObject({
    type: z.union([z.string(), z.array(z.string())]).exactOptional(),
    description: z.string().exactOptional(),
    default: z.unknown().optional(),
    const: z.unknown().optional(),
    enum: z.array(z.unknown()).exactOptional(),
    properties: z.record(z.string(), nodeSchema).exactOptional(),
    required: z.array(z.string()).exactOptional(),
    items: nodeSchema.exactOptional(),
    anyOf: z.array(nodeSchema).exactOptional(),
    allOf: z.array(nodeSchema).exactOptional(),
    minimum: z.number().exactOptional(),
    maximum: z.number().exactOptional(),
  }),
)

function nodeOf(schema: z.ZodType): SchemaNode {
  return nodeSchema.parse(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }))
}

/** A duration is a number or a text in the schema; nothing else is both. */
function isDuration({ type, anyOf }: SchemaNode): boolean {
  const types = Array.isArray(type) ? type : (anyOf ?? []).map((each) => each.type)
  return types.length === 2 && types.includes('number') && types.includes('string')
}

function typeText(node: SchemaNode): string {
  if (node.const !== undefined) return `\`${JSON.stringify(node.const)}\``
  if (node.enum !== undefined) return node.enum.map((value) => `\`${String(value)}\``).join(' or ')
  if (isDuration(node)) return 'duration'
  if (node.anyOf !== undefined) return node.anyOf.map(typeText).join(' or ')
  if (Array.isArray(node.type)) return node.type.map((type: string) => typeText({ type })).join(' or ')
  if (node.type === 'array') return `list of ${node.items === undefined ? 'values' : typeText(node.items)}`
  if (node.type === 'object') return 'map'
  if (node.type === 'string') return 'text'
  if (node.type !== 'integer' && node.type !== 'number') return String(node.type ?? 'any')
  const unit = node.type === 'integer' ? 'whole number' : 'number'
  const { minimum, maximum } = node
  const isBounded = maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER
  if (minimum !== undefined && isBounded) return `${unit}, ${minimum} to ${maximum}`
  return minimum !== undefined && minimum > Number.MIN_SAFE_INTEGER ? `${unit}, from ${minimum}` : unit
}

function defaultText(node: SchemaNode, isRequired: boolean): string {
  if (isRequired) return '**required**'
  if (node.default === undefined) return ''
  if (isDuration(node) && typeof node.default === 'number') return `\`${durationText(node.default)}\``
  return typeof node.default === 'object' && node.properties !== undefined ? '' : `\`${JSON.stringify(node.default)}\``
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ')
}

function keyTable(node: SchemaNode, prefix = ''): readonly string[] {
  const rows = keyRows(node, prefix)
  if (rows.length === 0) return ['No options.', '']
  return ['| key | type | default | meaning |', '|---|---|---|---|', ...rows, '']
}

function keyRows(node: SchemaNode, prefix: string): readonly string[] {
  const own = Object.entries(node.properties ?? {}).flatMap(([key, child]) => {
    const isRequired = node.required?.includes(key) === true && child.default === undefined
    const cells = [`\`${prefix}${key}\``, typeText(child), defaultText(child, isRequired), child.description ?? '']
    const row = `| ${cells.map(cell).join(' | ')} |`
    return [row, ...(child.properties === undefined ? [] : keyRows(child, `${prefix}${key}.`))]
  })
  const alternatives = [...(node.anyOf ?? []), ...(node.allOf ?? [])].flatMap((child) => keyRows(child, prefix))
  return [...own, ...alternatives]
}

function configurationDocument(): string {
  const kinds = [...sources.keys()].sort()
  return `${[
    '# Configuration: every key of stillpoint.yaml',
    '',
    '<!-- Generated by scripts/generate-docs.ts from the schemas. Change those, then: npm run docs -->',
    '',
    'One file describes one system. `stillpoint init` writes a first one; `stillpoint doctor` checks it, and the machine against it.',
    'Unknown keys are errors, and each error names file, line and column. Relative paths start at the directory of the file.',
    'Nothing is taken from environment variables, and passwords never stand in the file: it names a file or a command that has them.',
    '',
    '```yaml',
    'version: 1',
    'system: shop',
    'repository: { path: ./snapshots, passwordFile: ./repository-password }',
    'participants:',
    '  orders-db: { source: postgres, host: localhost, database: orders, user: stillpoint, passwordFile: ./pw, writers: [orders] }',
    '  orders: { process: true }',
    '```',
    '',
    'A *duration* is a text such as `200ms`, `8s`, `1h30m` or `2d`, or a number of milliseconds.',
    '',
    '## Keys',
    '',
    ...keyTable(nodeOf(configSchema)),
    '## Participants',
    '',
    'Each key below `participants` is a name: 1 to 64 letters, digits, ".", "_" or "-". What stands there is a process or a store.',
    '',
    '### A process',
    '',
    ...keyTable(nodeOf(processSchema)),
    '### A store',
    '',
    'These keys, and beside them those of its source:',
    '',
    ...keyTable(nodeOf(storeSchema)),
    ...kinds.flatMap((kind) => {
      const schema = sources.get(kind)?.optionsSchema
      return [`### \`source: ${kind}\``, '', ...(schema === undefined ? [] : keyTable(nodeOf(schema)))]
    }),
  ].join('\n')}`
}

async function cliReference(): Promise<string> {
  const program = await buildProgram(async () => {}, plainStreams, { version: '' })
  const helper = program.createHelp()
  const commands = program.commands.flatMap(withSubcommands).filter((command) => command.commands.length === 0)
  const sections = commands.flatMap((command) => {
    const options = helper.visibleOptions(command).filter((option) => option.long !== '--help')
    const parameters = [
      ...command.registeredArguments.map((each) => ({ term: helper.argumentTerm(each), what: each.description })),
      ...options.map((option) => ({ term: option.flags, what: helper.optionDescription(option) })),
    ]
    const name = commandPath(command)
    return [
      `### ${name}`,
      '',
      command.description(),
      '',
      '```sh',
      `stillpoint ${name} ${command.usage()}`,
      '```',
      '',
      '| argument or option | meaning |',
      '|---|---|',
      ...parameters.map(({ term, what }) => `| \`${cell(term)}\` | ${cell(what)} |`),
      '',
      ...examplesFor(command).map(({ line, what }) => `- \`${line}\`${what === '' ? '' : `: ${what}`}`),
      '',
      ...(resultSchemas.has(name)
        ? [`With \`--json\`: [${schemaPath(name)}](${schemaPath(name).slice('docs/'.length)}).`, '']
        : []),
    ]
  })
  const codes = Object.entries(exitCodeMeanings).map(([code, meaning]) => `| ${code} | ${cell(meaning)} |`)
  return ['## Exit codes', '', '| code | meaning |', '|---|---|', ...codes, '', '## Commands', '', ...sections].join(
    '\n',
  )
}

function schemaPath(command: string): string {
  return `docs/schemas/${command.replaceAll(' ', '-')}.json`
}

/** Path below the root to the text that it should have. */
async function documents(): Promise<ReadonlyMap<string, string>> {
  const texts = new Map<string, string>([['docs/configuration.md', configurationDocument()]])
  const cli = await readFile(join(root, 'docs/cli.md'), 'utf8')
  const begin = cli.indexOf(beginMark)
  const end = cli.indexOf(endMark)
  if (begin === -1 || end < begin) throw new Error(`docs/cli.md has lost its marks: ${beginMark} … ${endMark}`)
  texts.set('docs/cli.md', `${cli.slice(0, begin + beginMark.length)}\n\n${await cliReference()}\n${cli.slice(end)}`)
  for (const [name, schema] of resultSchemas) {
    const json = z.toJSONSchema(schema, { io: 'output', unrepresentable: 'any' })
    texts.set(schemaPath(name), `${JSON.stringify(json, null, 2)}\n`)
  }
  return texts
}

async function readOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  }
}

/** Documents that differ from the code, and schemas of commands that are no more. */
async function outdated(texts: ReadonlyMap<string, string>): Promise<readonly string[]> {
  const differing: string[] = []
  for (const [path, text] of texts) if ((await readOrNull(join(root, path))) !== text) differing.push(path)
  return [...differing, ...(await leftOver(texts))]
}

async function leftOver(texts: ReadonlyMap<string, string>): Promise<readonly string[]> {
  await mkdir(join(root, 'docs/schemas'), { recursive: true })
  const names = (await readdir(join(root, 'docs/schemas'))).map((name) => `docs/schemas/${name}`)
  return names.filter((path) => !texts.has(path))
}

async function generate(isCheck: boolean): Promise<number> {
  const texts = await documents()
  const paths = await outdated(texts)
  if (isCheck) {
    for (const path of paths) process.stderr.write(`${path} is not what the code says. Run: npm run docs\n`)
    return paths.length === 0 ? 0 : 1
  }
  for (const path of paths) {
    const text = texts.get(path)
    const file = join(root, path)
    await mkdir(dirname(file), { recursive: true })
    if (text === undefined) await rm(file)
    else await writeFile(file, text)
    process.stdout.write(`${text === undefined ? 'removed' : 'wrote'} ${path}\n`)
  }
  return 0
}

process.exitCode = await generate(process.argv.includes('--check'))
