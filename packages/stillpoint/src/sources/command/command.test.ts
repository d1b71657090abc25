import { afterAll, describe, test } from 'vitest'
import { sourceConformance } from '../conformance.ts'
import { commandWorkbench, pinned } from './command-workbench.ts'

sourceConformance({ describe, test, afterAll }, 'command with a mark', () => commandWorkbench(pinned), {
  hold: 'writes',
  mark: 'exact',
  leaseMs: 600,
  patienceMs: 5000,
})
