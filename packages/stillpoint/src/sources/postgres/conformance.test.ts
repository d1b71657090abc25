import { hasTool } from '@stillpoint/testbed'
import { afterAll, describe, test } from 'vitest'
import { sourceConformance } from '../conformance.ts'
import { startWorkbench } from './workbench.ts'

describe.skipIf(!hasTool('initdb') || !hasTool('pg_dump'))('postgres [needs postgresql]', () => {
  // pg_dump writes the time into its header.
  const features = { hold: 'writes', mark: 'exact', stableBytes: false, leaseMs: 600 } as const
  sourceConformance({ describe, test, afterAll }, 'postgres', startWorkbench, features)
})
