/** The hooks through which an application's own memory becomes part of a snapshot. */
import type { JsonValue } from '../message.ts'

/** Bytes at once, or a function that streams them from a handle that the application has pinned at the mark. */
export type StatePart = Uint8Array | (() => AsyncIterable<Uint8Array>)

export interface StateParts {
  /** By name: letters, digits, ".", "_", "-". A streaming part may be called again when an upload is repeated. */
  readonly parts: Readonly<Record<string, StatePart>>
  /** Called once, when the cut is over or given up: what the handles pin can go. */
  readonly release?: () => void | Promise<void>
}

export interface StateHooks {
  /**
   * Called at the mark: no handler runs and nothing is sent until it answers, so it must be fast and independent of the
   * state's size where that is large. A JSON value is serialised at once; `parts` may stream later.
   */
  readonly capture: () => JsonValue | StateParts | Promise<JsonValue | StateParts>
  /**
   * Puts the captured state in place of the present one. No handler runs meanwhile. Must do the same when called again.
   */
  readonly restore: (state: RestoredState) => void | Promise<void>
}

export interface RestoredState {
  /** The JSON value that `capture` answered; `undefined` where it answered parts. */
  readonly value: JsonValue | undefined
  readonly parts: ReadonlyMap<string, RestoredPart>
}

export interface RestoredPart {
  stream(): AsyncIterable<Uint8Array>
  bytes(): Promise<Uint8Array>
}

/** Name of the part that holds a JSON value. */
export const jsonPartName = 'state.json'

export function isStateParts(captured: JsonValue | StateParts): captured is StateParts {
  if (typeof captured !== 'object' || captured === null || Array.isArray(captured) || !('parts' in captured))
    return false
  const { parts } = captured
  if (typeof parts !== 'object' || parts === null || Array.isArray(parts)) return false
  const found: readonly unknown[] = Object.values(parts)
  return found.some((part) => part instanceof Uint8Array || typeof part === 'function')
}
