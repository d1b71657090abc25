import { hasTool } from '@stillpoint/testbed'
import { afterAll, describe, test } from 'vitest'
import { sourceConformance } from '../conformance.ts'
import { startWorkbench } from './workbench.ts'

describe.skipIf(!hasTool('redis-server'))('redis [needs redis-server]', () => {
  sourceConformance({ describe, test, afterAll }, 'redis', startWorkbench, {
    hold: 'writes',
    mark: 'exact',
    leaseMs: 600,
  })
})
