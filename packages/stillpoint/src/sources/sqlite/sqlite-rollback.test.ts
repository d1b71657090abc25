import { afterAll, describe, test } from 'vitest'
import { sourceConformance } from '../conformance.ts'
import { sqliteWorkbench } from './sqlite-workbench.ts'

sourceConformance(
  { describe, test, afterAll },
  'sqlite (rollback journal)',
  () => sqliteWorkbench({ journal: 'delete' }),
  { hold: 'writes', mark: 'exact', leaseMs: 600, patienceMs: 5000 },
)
