/** Owns the two options that every source and repository with a password takes. Apart from secret.ts, which needs no schemas. */
import { z } from 'zod'

/** A raw zod shape: spread it into the schema of the options that need a password. */
export const secretOptions = {
  passwordFile: z
    .string()
    .min(1)
    .optional()
    .describe(
      'File that holds the password; relative paths start at the directory of the configuration file. One newline at its end is not part of the password. The file must not be writable by other users.',
    ),
  passwordCommand: z
    .union([z.string().min(1), z.array(z.string()).min(1)])
    .optional()
    .describe(
      'Command that prints the password: a string, which `sh -c` runs, or a list of program and arguments. It runs in the directory of the configuration file and has 30 seconds.',
    ),
} as const
