/** The proof itself, with a few cuts: real servers under load, the real command, stock restic. */
import { hasTool } from '@stillpoint/testbed'
import { describe, expect, test } from 'vitest'
import { prove } from './proof.ts'

const tools = ['initdb', 'pg_dump', 'redis-server', 'restic'].every(hasTool)

describe.skipIf(!tools)('the proof [needs postgresql, redis-server, restic]', () => {
  test('cuts under load hold where naive dumps break', { timeout: 300_000 }, async () => {
    const report = await prove({ cuts: 2, naive: 1, rate: 60, orders: 400 }, () => {})
    expect(report.problems).toEqual([])
    expect(report).toMatchObject({ cuts: 2, held: 2, broken: 0, naiveBroken: 1 })
    expect(report.restic).toMatchObject({ checked: true, equal: true })
  })
})
