/** A secret from stdin. Never shown, never in a message. */
import type { ReadStream } from 'node:tty'
import { Failure } from '@stillpoint/core/kernel'
import { secretBytesMax } from '../config/secret.ts'

export interface SecretPrompt {
  readonly question: string
  /** Not to be typed again: a mistake shows at once. */
  readonly once?: boolean
  readonly signal: AbortSignal
  readonly say: (text: string) => void
}

/**
 * Typed twice on a terminal; else all of stdin, without one newline at its end.
 * @throws Failure `secret_empty` (the terminal is gone, or Ctrl-D), `secret_mistyped`, `secret_too_large`, `secret_not_text`;
 *   the signal's reason
 */
export async function readStdinSecret(stdin: ReadStream, prompt: SecretPrompt): Promise<string> {
  prompt.signal.throwIfAborted()
  if (!stdin.isTTY) return readAll(stdin, prompt.signal)
  const first = await typed(stdin, prompt)
  if (prompt.once === true) return first
  const second = await typed(stdin, { ...prompt, question: 'The same once more: ' })
  if (first === second) return first
  throw new Failure({ code: 'secret_mistyped', message: 'the two passwords differ', hint: 'Try again.' })
}

async function readAll(stdin: ReadStream, signal: AbortSignal): Promise<string> {
  const pieces: Buffer[] = []
  let bytes = 0
  // An abort ends the wait for somebody who does not write.
  const onAbort = () => stdin.destroy()
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    for await (const piece of stdin as AsyncIterable<Buffer>) {
      bytes += piece.length
      if (bytes > secretBytesMax) {
        const message = `stdin has more than ${secretBytesMax} bytes`
        throw new Failure({ code: 'secret_too_large', message, hint: 'A password is expected, and nothing else.' })
      }
      pieces.push(piece)
    }
  } finally {
    signal.removeEventListener('abort', onAbort)
    signal.throwIfAborted()
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(pieces)).replace(/\r?\n$/, '')
  } catch {
    // The decoder's own error may quote its input: it is no cause to show.
    throw new Failure({ code: 'secret_not_text', message: 'stdin is not UTF-8 text' })
  }
}

const enter = new Set(['\r', '\n'])
const erase = new Set(['\u007f', '\b'])
const [interrupt, endOfInput, eraseAll] = ['\u0003', '\u0004', '\u0015']

function typed(stdin: ReadStream, { question, signal, say }: SecretPrompt): Promise<string> {
  return new Promise((resolve, reject) => {
    let characters: string[] = []
    let isOver = false
    const end = (settle: () => void) => {
      if (isOver) return
      isOver = true
      signal.removeEventListener('abort', onAbort)
      stdin.setRawMode(false)
      stdin.pause()
      stdin.off('data', onData).off('end', onGone).off('error', onGone)
      say('\n')
      settle()
    }
    const onAbort = () => end(() => reject(signal.reason))
    const onGone = (cause?: Error) => end(() => reject(nothingTyped(cause)))
    const onData = (text: string) => {
      const keys = [...text]
      for (const [at, key] of keys.entries()) {
        if (isOver) return
        if (enter.has(key) || (key === endOfInput && characters.length > 0)) {
          end(() => resolve(characters.join('')))
          // What was pasted or typed ahead is for the next question.
          const rest = keys.slice(at + 1).join('')
          if (rest !== '') stdin.unshift(rest, 'utf8')
        } else if (key === endOfInput) onGone()
        // On a terminal in raw mode Ctrl-C is a key, not a signal.
        else if (key === interrupt) process.kill(process.pid, 'SIGINT')
        else if (key === eraseAll) characters = []
        else if (erase.has(key)) characters.pop()
        else characters.push(key)
      }
    }
    stdin.on('error', onGone).on('end', onGone)
    // Before the question: who sees it may type at once, and nothing of that may be shown.
    stdin.setRawMode(true)
    stdin.setEncoding('utf8')
    signal.addEventListener('abort', onAbort, { once: true })
    say(question)
    stdin.on('data', onData)
    stdin.resume()
  })
}

function nothingTyped(cause: Error | undefined): Failure {
  return new Failure({
    code: 'secret_empty',
    message: 'no password was typed',
    hint: 'Type it, or name a file that has it.',
    ...(cause === undefined ? {} : { cause }),
  })
}
