/**
 * The schema of `stillpoint.yaml`, except for the options of the sources, which each source states itself.
 *
 * Owns: keys, types, defaults, bounds and their descriptions: docs/configuration.md is generated from here.
 * Does not own: positions and wording of errors (problems.ts), checks across participants (load.ts).
 */
import { type Deadlines, defaultDeadlines } from '@stillpoint/core'
import { isFailure, participantName } from '@stillpoint/core/kernel'
import { parseRestUrl, parseS3Location, s3StorageClasses } from '@stillpoint/repository'
import { z } from 'zod'
import { durationSchema, durationText } from './duration.ts'
import { secretOptions } from './secret-options.ts'

const dayMs = 24 * 3_600_000
export const configFileName = 'stillpoint.yaml'
export const defaultStateDir = './.stillpoint'
export const defaultRetries = { attempts: 5, backoffMs: 200 } as const
export const defaultServer = { host: '127.0.0.1', port: 0 } as const

/** A name that `participantName` accepts. */
export const nameSchema = z.string().superRefine((text, context) => {
  const problem = nameProblem(text)
  if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
})

/** Why a name is refused, or undefined. */
export function nameProblem(text: string): string | undefined {
  try {
    participantName(text)
    return undefined
  } catch (error) {
    if (!isFailure(error, 'name_invalid')) throw error
    return `${error.message}. ${error.hint ?? ''}`.trim()
  }
}

const pathSchema = z
  .string()
  .min(1)
  .max(4_096)
  .refine((path) => !path.includes('\0'), { error: 'must not contain a NUL character' })

const isS3 = (url: string): boolean => url.startsWith('s3:')

/** Why the address of a server is refused, or undefined. Quotes nothing: there may be a password in it. */
function urlProblem(url: string): string | undefined {
  try {
    if (isS3(url)) parseS3Location(url)
    else parseRestUrl(url)
    return undefined
  } catch (error) {
    if (!isFailure(error, 'options_invalid')) throw error
    return `is refused: ${error.message}. ${error.hint ?? ''}`.trim()
  }
}

const s3Schema = z.strictObject({
  region: z
    .string()
    .regex(/^[a-z0-9-]{1,64}$/, { error: 'must be the name of a region, such as eu-central-1' })
    .optional()
    .describe(
      'Default: what the host’s name says, `AWS_REGION` or the profile of the user who runs Stillpoint; then `us-east-1`.',
    ),
  profile: z
    .string()
    .min(1)
    .max(256)
    .optional()
    .describe('Profile in the shared files in ~/.aws, or in `credentialsFile`.'),
  addressing: z
    .enum(['path', 'host'])
    .optional()
    .describe(
      'Where the name of the bucket stands: in the path or in the host’s name. Default: `host` on Amazon, else `path`.',
    ),
  storageClass: z.enum(s3StorageClasses).optional().describe('Storage class of packs. Default: the bucket’s.'),
  objectLock: z
    .strictObject({
      mode: z
        .enum(['GOVERNANCE', 'COMPLIANCE'])
        .describe('`COMPLIANCE`: nobody can end the protection early, not even the owner of the account.'),
      days: z.int().min(1).max(36_500).describe('Days of protection, from the upload of each object.'),
    })
    .optional()
    .describe(
      'Protects everything that is stored, except locks, from being overwritten or removed for good. The bucket must have Object Lock; one that Stillpoint makes gets it.',
    ),
})

const repositorySchema = z
  .strictObject({
    path: pathSchema
      .refine((path) => !/^[a-z][a-z0-9+.-]{1,10}:/i.test(path), {
        error: 'must be a directory on this machine; the address of a server is given as "url"',
      })
      .optional()
      .describe(
        'Directory of the repository. Relative paths start at the directory of the configuration file. Either this or `url`.',
      ),
    url: z
      .string()
      .min(1)
      .max(2_048)
      .superRefine((url, context) => {
        const problem = urlProblem(url)
        if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
      })
      .optional()
      .describe(
        'Address of the repository on a REST server, such as `rest:https://backup.example.org:8000/alice/shop/`: `stillpoint vault`, or restic’s rest-server. Or on S3 and what speaks its protocol, such as `s3:https://s3.example.org/bucket/shop`. No user or password in it.',
      ),
    credentialsFile: pathSchema
      .optional()
      .describe(
        'With `url`: file with one line that the server lets in by, `name:password` or a token. For S3: a file as ~/.aws/credentials; without it credentials come from the environment (`AWS_ACCESS_KEY_ID` …), from ~/.aws, from the container or the machine.',
      ),
    caFile: pathSchema
      .optional()
      .describe('With `url`: PEM file of the certificates to trust instead of the system’s.'),
    insecureHttp: z
      .boolean()
      .optional()
      .describe(
        'With the `url` of a REST server: sends credentials over plain HTTP to other machines too. Default: false.',
      ),
    s3: s3Schema.optional().describe('With a `url` on S3.'),
    ...secretOptions,
  })
  .superRefine((value, context) => {
    const places = [value.path, value.url].filter((place) => place !== undefined).length
    if (places === 0) context.addIssue({ code: 'custom', message: 'needs a place: set path, or url' })
    if (places === 2) context.addIssue({ code: 'custom', message: 'must have one of path and url, not both' })
    for (const key of ['credentialsFile', 'caFile', 'insecureHttp'] as const) {
      if (value.url !== undefined || value[key] === undefined) continue
      context.addIssue({ code: 'custom', path: [key], message: 'has a meaning only with url' })
    }
    const isOnS3 = value.url !== undefined && isS3(value.url)
    if (value.s3 !== undefined && !isOnS3) {
      context.addIssue({ code: 'custom', path: ['s3'], message: 'has a meaning only with a url on S3' })
    }
    if (value.insecureHttp !== undefined && isOnS3) {
      const message = 'has no meaning on S3, where secrets are never sent'
      context.addIssue({ code: 'custom', path: ['insecureHttp'], message })
    }
    const given = [value.passwordFile, value.passwordCommand].filter((option) => option !== undefined).length
    if (given === 1) return
    const message =
      given === 0
        ? 'needs a password: set passwordFile or passwordCommand'
        : 'must have one of passwordFile and passwordCommand, not both'
    context.addIssue({ code: 'custom', message })
  })

const deadlineBounds: Readonly<Record<keyof Deadlines, { readonly minMs: number; readonly maxMs: number }>> = {
  prepareMs: { minMs: 100, maxMs: dayMs },
  quiesceMs: { minMs: 10, maxMs: 600_000 },
  markMs: { minMs: 10, maxMs: 600_000 },
  resumeMs: { minMs: 10, maxMs: 600_000 },
  drainMs: { minMs: 10, maxMs: dayMs },
  captureMs: { minMs: 1_000, maxMs: 14 * dayMs },
  leaseMs: { minMs: 100, maxMs: 600_000 },
  handlerMs: { minMs: 1, maxMs: 600_000 },
}

function deadline(key: keyof Deadlines, description: string) {
  const text = `${description} Default: ${durationText(defaultDeadlines[key])}.`
  return durationSchema(deadlineBounds[key]).optional().describe(text)
}

const deadlinesSchema = z.strictObject({
  prepareMs: deadline('prepareMs', 'For all participants to connect and answer that they are ready.'),
  quiesceMs: deadline('quiesceMs', 'From the first hold that is asked for to the last one acknowledged.'),
  markMs: deadline('markMs', 'From the order to mark to the last mark.'),
  resumeMs: deadline('resumeMs', 'For all holds to be released and reported on.'),
  drainMs: deadline('drainMs', 'For the messages in flight to be collected.'),
  captureMs: deadline('captureMs', 'For the marked states to be copied into the repository.'),
  leaseMs: deadline('leaseMs', 'After this time a store ends its hold by itself, whatever becomes of Stillpoint.'),
  handlerMs: deadline('handlerMs', 'How long a process that closes its gate waits for handlers that still run.'),
})

export const processSchema = z.strictObject({
  process: z.literal(true).describe('This participant is a process that runs the SDK and joins by this name.'),
})

/** The keys of a store beside the options of its source. */
export const storeSchema = z.strictObject({
  source: z.string().min(1).describe('Kind of the store: which source drives it.'),
  writers: z
    .union([z.literal('unknown'), z.array(nameSchema).min(1)], {
      error: 'must be a list of the processes that write this store, or "unknown"',
    })
    .optional()
    .describe(
      'The processes that write this store, and nobody else does. One: it marks the store itself. Several: their gates close together. Default: unknown, and the store itself is held.',
    ),
})

export const configSchema = z.strictObject({
  version: z
    .literal(1, { error: 'must be 1, the version of this format that this Stillpoint reads' })
    .describe('Version of this file format. Always 1.'),
  system: nameSchema.describe('Name of the system: letters, digits, ".", "_" and "-".'),
  repository: repositorySchema.describe('Where snapshots are stored, and the password that encrypts them.'),
  stateDir: pathSchema
    .default(defaultStateDir)
    .describe('Directory for the catalog, the address of the running server and its tokens.'),
  server: z
    .strictObject({
      host: z.string().min(1).max(255).default(defaultServer.host).describe('Address to listen on.'),
      port: z
        .int()
        .min(0)
        .max(65_535)
        .default(defaultServer.port)
        .describe('Port to listen on; 0: any free one. The address in use is written to server.json in stateDir.'),
    })
    .default({ ...defaultServer })
    .describe('Where `stillpoint up` listens.'),
  deadlines: deadlinesSchema.default({}).describe('How long each phase of a snapshot may take.'),
  retries: z
    .strictObject({
      attempts: z
        .int()
        .min(1)
        .max(100)
        .default(defaultRetries.attempts)
        .describe('How often a snapshot is tried before it fails.'),
      backoff: durationSchema({ minMs: 0, maxMs: 3_600_000 })
        .default(defaultRetries.backoffMs)
        .describe(
          `Pause before the second attempt; it doubles with each further one. Default: ${durationText(defaultRetries.backoffMs)}.`,
        ),
    })
    .default({ attempts: defaultRetries.attempts, backoff: defaultRetries.backoffMs })
    .describe('What happens when an attempt fails before anything was sealed.'),
  schedule: z
    .strictObject({
      every: durationSchema({ minMs: 1_000, maxMs: 366 * dayMs }).describe('Time from one snapshot to the next.'),
    })
    .optional()
    .describe('Snapshots that `stillpoint up` takes by itself. Default: none.'),
  participants: z
    .record(z.string(), z.unknown())
    .describe('The stores and processes that are snapshot together, by name.'),
})

export type ConfigFile = z.output<typeof configSchema>
