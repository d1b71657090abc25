/**
 * What a command says: data to stdout, messages to stderr, `--json` for programs.
 *
 * Owns: which stream gets what, and that one does not break the other. Does not own: exit codes (exit-codes.ts), what
 * moves on the screen (progress.ts).
 *
 * Invariants:
 * - stdout gets data only. With `--json` it gets JSON only: one object per result, each on a line of its own.
 * - A reader that goes away (`| head`) is no failure: what is written to a closed stdout is dropped.
 * - Nothing from elsewhere reaches a terminal with control characters in it.
 */
import { describeFailure } from '@stillpoint/core/kernel'
import { plainText } from './quantities.ts'
import { wrapped } from './table.ts'

export interface TextStream {
  write(text: string): void
  readonly isTTY: boolean
  /** Width of the terminal; undefined where there is none. */
  columns(): number | undefined
  /** The reader has gone away. */
  readonly closed: boolean
}

export interface Terminal {
  readonly stdout: TextStream
  readonly stderr: TextStream
  /** Asks on stderr and reads one line from stdin; null where nobody can answer: stdin or stderr is no terminal. */
  ask(question: string, signal: AbortSignal): Promise<string | null>
  /**
   * A secret from stdin: typed twice and not shown where that is a terminal, else all that comes, without one newline at
   * its end. @throws Failure `secret_empty` (nothing was typed), `secret_too_large`, `secret_not_text`, `secret_mistyped`
   */
  readSecret(question: string, signal: AbortSignal): Promise<string>
  /** Colours are wanted: NO_COLOR is not set, TERM is not `dumb`. */
  readonly color: boolean
}

/** A display that is redrawn; it steps aside while a message is written. */
export interface LiveDisplay {
  hide(): void
  show(): void
}

export type Tone = 'good' | 'warning' | 'bad' | 'faint' | 'strong'
const toneCodes: Readonly<Record<Tone, number>> = { good: 32, warning: 33, bad: 31, faint: 2, strong: 1 }

export interface Output {
  readonly json: boolean
  readonly terminal: Terminal
  /** Lines for people, on stdout. Left out with `--json`. */
  lines(lines: readonly string[]): void
  /** The result, on stdout, with `--json` only. */
  result(value: object): void
  /** A message, on stderr; left out with `--json`. */
  message(text: string): void
  /** A message that matters to programs' logs too: also with `--json`. */
  warning(text: string): void
  /** One line of a log, on stderr, as it is. */
  log(line: string): void
  failure(error: unknown, exitCode: number): void
  /** Marks text on stdout, where that is a terminal. */
  tone(text: string, tone: Tone): string
  setLive(display: LiveDisplay | null): void
}

export function createOutput(terminal: Terminal, options: { readonly json: boolean }): Output {
  const { json } = options
  let live: LiveDisplay | null = null
  const aside = (write: () => void) => {
    live?.hide()
    write()
    live?.show()
  }
  const toStderr = (text: string) => aside(() => terminal.stderr.write(`${plainText(text)}\n`))
  return {
    json,
    terminal,
    lines(lines) {
      if (json || lines.length === 0) return
      aside(() => terminal.stdout.write(`${lines.join('\n')}\n`))
    },
    result(value) {
      if (json) aside(() => terminal.stdout.write(`${JSON.stringify(value)}\n`))
    },
    message(text) {
      if (!json) toStderr(text)
    },
    warning(text) {
      toStderr(json ? JSON.stringify({ warning: text }) : `warning: ${text}`)
    },
    log(line) {
      toStderr(line)
    },
    failure(error, exitCode) {
      const report = describeFailure(error)
      if (json) {
        // The first three are restic's, for scripts that were written for it.
        const { message } = report
        toStderr(JSON.stringify({ message_type: 'exit_error', code: exitCode, message, error: report, exitCode }))
        return
      }
      const width = terminal.stderr.columns()
      const hint = report.hint === undefined ? [] : wrapped(report.hint, width === undefined ? undefined : width - 2)
      const head = `error[${report.code}]: ${report.message}`
      toStderr([head, ...hint.map((line) => `  ${line}`)].join('\n'))
    },
    tone(text, tone) {
      return terminal.color && terminal.stdout.isTTY ? `\u001b[${toneCodes[tone]}m${text}\u001b[0m` : text
    },
    setLive(display) {
      live = display
    },
  }
}
