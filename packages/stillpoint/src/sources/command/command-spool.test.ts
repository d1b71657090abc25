import { afterAll, describe, test } from 'vitest'
import { sourceConformance } from '../conformance.ts'
import { commandWorkbench, spooled } from './command-workbench.ts'

sourceConformance({ describe, test, afterAll }, 'command captured inside its hold', () => commandWorkbench(spooled), {
  hold: 'writes',
  mark: 'exact',
  leaseMs: 600,
  patienceMs: 5000,
})
