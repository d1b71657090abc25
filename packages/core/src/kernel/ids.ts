/** Branded identifiers and the rules for the names that people choose. */
import { Failure } from './failure.ts'

declare const brand: unique symbol
export type Branded<T, B extends string> = T & { readonly [brand]: B }

/** Name of a store or process within its system. Chosen by people, so it passes `participantName` first. */
export type ParticipantName = Branded<string, 'ParticipantName'>
/** One attempt at one cut. A retry is another cut. */
export type CutId = Branded<string, 'CutId'>
/** One life of a participant: a process from its start to its end, a store from one connection to its loss. */
export type Incarnation = Branded<string, 'Incarnation'>
/** A directed path for messages between two processes: `from→to`, or `from→to#label`. */
export type ChannelId = Branded<string, 'ChannelId'>
/** One life of a channel: between one incarnation of its sender and one of its receiver. */
export type SessionId = Branded<string, 'SessionId'>
/** A message's own id, unique in its system and stable over redelivery. */
export type MessageId = Branded<string, 'MessageId'>
/** Id of a tree in the repository: 64 hexadecimal digits. */
export type TreeId = Branded<string, 'TreeId'>

export const nameBytesMax = 64
const namePattern = /^[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?$/i

/**
 * Checks a name that becomes a file name, a path in a snapshot and a word on a screen.
 * @throws Failure `name_invalid`
 */
export function participantName(text: string): ParticipantName {
  if (text.length > nameBytesMax || !namePattern.test(text) || text.includes('..')) {
    const shown = JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text)
    throw new Failure({
      code: 'name_invalid',
      message: `${shown} is not a valid name${text.length > nameBytesMax ? ` (${text.length} characters)` : ''}`,
      hint: `Use 1 to ${nameBytesMax} letters, digits, ".", "_" or "-", beginning and ending with a letter or digit, without "..".`,
    })
  }
  return text as ParticipantName
}

const labelPattern = /^[a-z0-9-]{1,32}$/

export function channelId(from: ParticipantName, to: ParticipantName, label?: string): ChannelId {
  if (label !== undefined && !labelPattern.test(label)) {
    throw new Failure({ code: 'name_invalid', message: `${JSON.stringify(label)} is not a valid channel label` })
  }
  return `${from}→${to}${label === undefined ? '' : `#${label}`}` as ChannelId
}

/**
 * The ends of a channel.
 * @throws Failure `name_invalid` where the id was not made by `channelId`
 */
export function channelEnds(channel: ChannelId): { from: ParticipantName; to: ParticipantName; label?: string } {
  const [path = '', label, tooMuch] = channel.split('#')
  const [from = '', to = '', more] = path.split('→')
  if (more !== undefined || tooMuch !== undefined) throw notAChannel(channel)
  if (label !== undefined && !labelPattern.test(label)) throw notAChannel(channel)
  const ends = { from: participantName(from), to: participantName(to) }
  return label === undefined ? ends : { ...ends, label }
}

function notAChannel(text: string): Failure {
  return new Failure({ code: 'name_invalid', message: `not a channel: ${JSON.stringify(text.slice(0, 200))}` })
}
