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

/** Typed twice on a terminal; else all of stdin, without one newline at its end. */
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

const enter = new Set(['\r', '\n', '\u0004'])
const erase = new Set(['\u007f', '\b'])

function typed(stdin: ReadStream, { question, signal, say }: SecretPrompt): Promise<string> {
  say(question)
  stdin.setRawMode(true)
  stdin.setEncoding('utf8')
  stdin.resume()
  return new Promise((resolve, reject) => {
    let characters: string[] = []
    const end = () => {
      stdin.setRawMode(false)
      stdin.pause()
      stdin.off('data', onData)
      signal.removeEventListener('abort', onAbort)
      say('\n')
    }
    const onAbort = () => {
      end()
      reject(signal.reason)
    }
    const onData = (text: string) => {
      for (const character of text) {
        if (enter.has(character)) {
          end()
          resolve(characters.join(''))
          return
        }
        // On a terminal in raw mode Ctrl-C is a key, not a signal.
        if (character === '\u0003') process.kill(process.pid, 'SIGINT')
        else if (character === '\u0015') characters = []
        else if (erase.has(character)) characters.pop()
        else characters.push(character)
      }
    }
    stdin.on('data', onData)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}
