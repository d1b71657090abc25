/**
 * Judges of a world's cuts, which know nothing of the protocol's own bookkeeping. Each answers what it found wrong.
 */
import { processesOf } from '../plan.ts'
import type { VectorClock } from './vector-clock.ts'
import type { SealedCut, World } from './world-types.ts'

/**
 * Closed under happens-before: no participant's mark knows more of another than that one's own mark. What a handler
 * that its gate could not wait for did meanwhile is exempt: the certificate names the handler, and the verdict is not
 * `consistent`.
 */
export function causalityFindings({ clocks, certificate, verdict }: SealedCut): readonly string[] {
  const hasOpenHandlers = Object.values(certificate.processes).some(({ mark }) => mark.openHandlers.length > 0)
  if (hasOpenHandlers && verdict.kind !== 'consistent') return []
  const findings: string[] = []
  for (const [knower, clock] of clocks) {
    for (const [known, own] of clocks) {
      if (eventsOf(clock, known) > eventsOf(own, known)) {
        findings.push(
          `${knower}'s mark knows ${eventsOf(clock, known)} events of ${known}, whose mark has ${eventsOf(own, known)}`,
        )
      }
    }
  }
  return findings
}

function eventsOf(clock: VectorClock, name: string): number {
  return clock[name] ?? 0
}

/** Tokens in states and in recorded channels are the tokens that there were. */
export function conservationFindings({ balances, recorded }: SealedCut, tokens: number): readonly string[] {
  const found = [...balances, ...recorded].reduce((sum, amount) => sum + amount, 0)
  return found === tokens ? [] : [`${found} tokens in the cut, ${tokens} in the world`]
}

/** Nothing is left of a cut that is over, once all news has arrived (C7). */
export function leftoverFindings(world: World): readonly string[] {
  const findings: string[] = []
  for (const [name, { state }] of world.processes) {
    if (state.gate.kind !== 'open') findings.push(`${name}'s gate is ${state.gate.kind}`)
    if (state.work !== null) findings.push(`${name} still works for ${state.work.ref.cut}`)
    if (state.heldSends.length > 0) findings.push(`${name} still holds sendings`)
  }
  for (const [name, { state, held }] of world.stores) {
    if (held !== null) findings.push(`${name} is held`)
    if (state.work !== null) findings.push(`${name} still works for ${state.work.ref.cut}`)
  }
  return findings
}

export function isAllConnected(world: World): boolean {
  return [...world.processes.values()].every(({ connected }) => connected)
}

export function isFlow(cut: SealedCut): boolean {
  return processesOf(cut.plan).every(({ gated }) => !gated)
}
