/** The judge of the wire: what a machine says and a reader refuses is found. */
import { cutOffReasons, type Fact } from '@stillpoint/core'
import { expect, test } from 'vitest'
import { Wire } from './wire.ts'

const ref = { cut: 'cut-1', epoch: 1, generation: 1, fencing: 1 }

function marked(cutOffBy: string): Fact {
  const evidence = {
    kind: 'process',
    incarnation: 'p-1',
    epochEntered: 1,
    enteredBy: 'order',
    sent: [],
    received: [],
    openHandlers: [{ startedBy: 'process', transactional: false, cutOffBy }],
    uncolouredHandled: 0,
    gateMs: 1,
  }
  return { type: 'marked', ref, evidence } as unknown as Fact
}

test('every reason for which a handler can be cut off is read as it was said', () => {
  const findings: string[] = []
  const wire = new Wire(findings)
  for (const reason of cutOffReasons) expect(wire.fact(marked(reason))).toEqual(marked(reason))
  expect(findings).toEqual([])
})

test('what no reader knows is a finding, and goes on as it was', () => {
  const findings: string[] = []
  const fact = marked('boredom')
  expect(new Wire(findings).fact(fact)).toBe(fact)
  expect(findings.join()).toMatch(/nobody can read .*"boredom".*cutOffBy/)
})
