/**
 * The kinds of stores that there is a source for.
 *
 * Owns: the list, and the validation of options before a source sees them. Does not own: where options come from
 * (config), nor what they mean.
 */
import { Failure } from '@stillpoint/core/kernel'
import type { z } from 'zod'
import { commandOptions, commandSource } from './command/index.ts'
import { filesOptions, filesSource } from './files/index.ts'
import { postgresOptions, postgresSource } from './postgres/postgres.ts'
import { redisOptions, redisSource } from './redis/redis.ts'
import type { Source, SourceEnvironment, SourceSession } from './source.ts'
import { sqliteOptions, sqliteSource } from './sqlite/index.ts'

export interface RegisteredSource {
  readonly kind: string
  /** Each field has a description: the configuration reference is generated from it. */
  readonly optionsSchema: z.ZodType
  /** @throws Failure `options_invalid`, and what the source's own `open` throws */
  open(options: unknown, env: SourceEnvironment, signal: AbortSignal): Promise<SourceSession>
}

function registered<Options>(source: Source<Options>, optionsSchema: z.ZodType<Options>): [string, RegisteredSource] {
  const { kind } = source
  return [
    kind,
    {
      kind,
      optionsSchema,
      async open(options, env, signal) {
        const read = optionsSchema.safeParse(options)
        if (!read.success) throw optionsInvalid(kind, read.error)
        return source.open(read.data, env, signal)
      },
    },
  ]
}

export const sources: ReadonlyMap<string, RegisteredSource> = new Map([
  registered(postgresSource, postgresOptions),
  registered(redisSource, redisOptions),
  registered(sqliteSource, sqliteOptions),
  registered(filesSource, filesOptions),
  registered(commandSource, commandOptions),
])

/**
 * Opens a session on a store of the given kind.
 * @throws Failure `source_unknown` | `options_invalid` (names each field), and what the source's own `open` throws
 */
export async function openSource(
  kind: string,
  options: unknown,
  env: SourceEnvironment,
  signal: AbortSignal,
): Promise<SourceSession> {
  const source = sources.get(kind)
  if (source === undefined) {
    const shown = kind.length > 40 ? `${kind.slice(0, 40)}…` : kind
    throw new Failure({
      code: 'source_unknown',
      message: `there is no source for ${JSON.stringify(shown)}`,
      hint: `Use one of: ${[...sources.keys()].join(', ')}.`,
    })
  }
  return source.open(options, env, signal)
}

/** Field and rule only: a value may be a secret that stands in the wrong place. */
function optionsInvalid(kind: string, error: z.ZodError): Failure {
  const problems = error.issues.map((issue) => {
    const field = issue.path.map(String).join('.')
    return field === '' ? issue.message : `${field}: ${issue.message}`
  })
  return new Failure({
    code: 'options_invalid',
    message: `the options of this ${kind} store are not valid: ${problems.join('; ')}`,
    hint: `Correct the fields that are named; docs/sources/${kind}.md describes all of them.`,
  })
}
