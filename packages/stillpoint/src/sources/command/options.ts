/** The options of the `command` source. Each text is what the configuration reference shows. */
import { z } from 'zod'

const command = z.union([z.string().min(1), z.array(z.string()).min(1)])
const how = 'A string, which `sh -c` runs, or a list of program and arguments.'

export const commandOptions = z
  .strictObject({
    capture: command.describe(
      `Prints the store's content to stdout. With \`mark\`: the content as it was at the mark of the cut in STILLPOINT_CUT. ${how}`,
    ),
    restore: command
      .optional()
      .describe(
        `Reads from stdin what \`capture\` printed, and puts it into the store. STILLPOINT_REPLACE is 1 where the old content is to be replaced, else 0. ${how}`,
      ),
    quiesce: command
      .optional()
      .describe(
        `Holds all writers, and exits with 0 once none is at work. Needs \`resume\`. STILLPOINT_LEASE_MS says how long the hold may last at most. ${how}`,
      ),
    resume: command
      .optional()
      .describe(
        `Lets the writers go. It is run when the cut is marked, when the lease ends, and when Stillpoint dies; also after a \`quiesce\` that failed, and possibly twice. It must exit with 0 where nothing is held, and with another code where the hold was lost. ${how}`,
      ),
    mark: command
      .optional()
      .describe(
        `Pins the store's state under the name in STILLPOINT_CUT, quickly, and prints its position: one line, or a JSON object of strings and numbers. ${how}`,
      ),
    release: command
      .optional()
      .describe(
        `Drops what \`mark\` pinned for STILLPOINT_CUT. It may be run when nothing is pinned, and then exits with 0. ${how}`,
      ),
    empty: command
      .optional()
      .describe(
        `Exits with 0 where the store is empty, with 1 where it is not. Without it, a restore must be told to replace. ${how}`,
      ),
    verify: command
      .optional()
      .describe(
        `Reads from stdin what was restored, compares it with the store, and exits with 0 where they are equal, with 1 where not. ${how}`,
      ),
    estimate: command.optional().describe(`Prints how many bytes \`capture\` will print, about. ${how}`),
    env: z
      .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string())
      .default({})
      .describe(
        'Variables added to the environment of the commands. No place for secrets: let the commands read those.',
      ),
    timeoutMs: z
      .int()
      .min(1)
      .default(3_600_000)
      .describe('How long `capture`, `restore` and `verify` may take, in milliseconds. Default: one hour.'),
    hookTimeoutMs: z
      .int()
      .min(1)
      .default(30_000)
      .describe(
        'How long each of the other commands may take, in milliseconds. `quiesce` never takes longer than the lease.',
      ),
  })
  .refine((options) => (options.quiesce === undefined) === (options.resume === undefined), {
    path: ['resume'],
    message: 'quiesce and resume are given together, or not at all',
  })
  .refine((options) => options.release === undefined || options.mark !== undefined, {
    path: ['release'],
    message: 'release drops what mark pins: it is of no use without mark',
  })
export type CommandOptions = z.infer<typeof commandOptions>
