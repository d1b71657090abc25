import { afterAll, describe, test } from 'vitest'
import { sourceConformance } from '../conformance.ts'
import { sqliteWorkbench } from './sqlite-workbench.ts'

sourceConformance({ describe, test, afterAll }, 'sqlite (WAL)', () => sqliteWorkbench(), {
  hold: 'writes',
  mark: 'exact',
  leaseMs: 600,
  patienceMs: 5000,
})
