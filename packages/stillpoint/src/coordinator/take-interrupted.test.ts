import { Failure } from '@stillpoint/core/kernel'
import { describe, expect, test } from 'vitest'
import { isWritable, quiet, recording, startSystem } from './system-workbench.ts'

const request = { allowInconsistent: false, tags: [] }

describe('a take that is interrupted', () => {
  const phases = ['prepare', 'quiesce', 'mark', 'resume', 'capture'] as const

  test.each(phases)('in %s: ends as interrupted, no hold left, the next one works', async (phase) => {
    const bench = await startSystem()
    try {
      const controller = new AbortController()
      const reason = new Failure({ code: 'interrupted', message: 'Ctrl-C' })
      const context = {
        signal: controller.signal,
        onEvent: (event: { type: string; phase?: string }) => {
          if (event.type === 'phase' && event.phase === phase) controller.abort(reason)
        },
      }
      await expect(bench.operations.take(request, context)).rejects.toMatchObject({ code: 'interrupted' })
      expect(isWritable(bench.path('accounts.db'))).toBe(true)
      expect(await bench.operations.list(quiet())).toEqual([])
      expect((await (await bench.repository()).check({ readData: true })).problems).toEqual([])
      expect((await bench.operations.take(request, quiet())).verdict).toBe('consistent')
    } finally {
      await bench.stop()
    }
  })

  test('C6 while it is sealed: the snapshot exists, and its outcome says so', async () => {
    const bench = await startSystem()
    try {
      const controller = new AbortController()
      const context = {
        signal: controller.signal,
        onEvent: (event: { type: string; phase?: string }) => {
          if (event.type === 'phase' && event.phase === 'seal') controller.abort(new Error('Ctrl-C'))
        },
      }
      const taken = await bench.operations.take(request, context)
      expect((await bench.operations.list(quiet())).map(({ id }) => id)).toEqual([taken.id])
      expect(await bench.catalog.openCuts('bank')).toEqual([])
    } finally {
      await bench.stop()
    }
  })

  test('by closing the operations: it is waited for, and nothing is held', async () => {
    const bench = await startSystem()
    try {
      const { context, events } = recording()
      const take = bench.operations.take(request, context)
      const ended = expect(take).rejects.toMatchObject({ code: 'interrupted' })
      while (!events.some((event) => event.type === 'phase' && event.phase === 'prepare')) {
        await new Promise((wake) => setTimeout(wake, 2))
      }
      await bench.operations.close()
      await ended
      expect(isWritable(bench.path('accounts.db'))).toBe(true)
    } finally {
      await bench.stop()
    }
  })
})

describe('one operation at a time', () => {
  test('a second take is refused while one runs, and names it', async () => {
    const bench = await startSystem()
    try {
      const other = await bench.reopen()
      let refused: Promise<unknown> | undefined
      const onEvent = (event: { type: string; phase?: string }) => {
        if (event.type !== 'phase' || event.phase !== 'prepare') return
        refused = other.operations.take(request, quiet()).catch((error: unknown) => error)
      }
      await bench.operations.take(request, { ...quiet(), onEvent })
      expect(await refused).toMatchObject({ code: 'system_busy', message: expect.stringContaining('"take"') })
      await other.operations.take(request, quiet())
    } finally {
      await bench.stop()
    }
  })
})
