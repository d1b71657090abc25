/** The connection to Stillpoint, the state hooks, uploads and restores, over real sockets. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { Failure } from '@stillpoint/core/kernel'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { join } from './join.ts'
import type { JoinOptions } from './options.ts'
import type { Participant } from './participant.ts'
import type { StateHooks } from './state/hooks.ts'
import { type ScriptedCoordinator, scriptedCoordinator, stateOf, testToken } from './testing/scripted-coordinator.ts'

const open: { close(): unknown }[] = []
let coordinator: ScriptedCoordinator
beforeEach(async () => {
  coordinator = await scriptedCoordinator()
  open.push(coordinator)
})
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close()
})

function start(name: string, more: Partial<JoinOptions> = {}): Participant & { readonly errors: Failure[] } {
  const errors: Failure[] = []
  const credentials = more.tokenFile === undefined ? { token: testToken } : {}
  const onError = (error: unknown): void => void errors.push(error as Failure)
  const participant = join({ name, server: coordinator.url, ...credentials, onError, ...more })
  open.push({ close: () => participant.close({ flushMs: 1 }) })
  return Object.assign(participant, { errors })
}

describe('joining', () => {
  test('a refused token is named, does not stop the service, and a rotated one is taken', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'stillpoint-sdk-'))
    open.push({ close: () => rm(folder, { recursive: true }) })
    const tokenFile = path.join(folder, 'token')
    await writeFile(tokenFile, 'a-wrong-token\n')
    const a = start('a', { tokenFile })
    await coordinator.until(() => a.status().refusal !== null, 'the refusal')
    expect(a.status()).toMatchObject({ phase: 'joining', isConnected: false, refusal: { code: 'token_refused' } })
    expect(a.errors[0]?.message).not.toContain('a-wrong-token')
    expect(await a.run(() => 'served')).toBe('served')
    await writeFile(tokenFile, `${testToken}\n`)
    await a.joined
    expect(a.status()).toMatchObject({ phase: 'serving', isConnected: true, refusal: null })
  })

  test('a lost connection is made again, with the same incarnation and what this process knows', async () => {
    const a = start('a')
    await a.joined
    await coordinator.cut(['a'])
    coordinator.connected.get('a')?.socket.terminate()
    await coordinator.until(
      () => coordinator.frames.filter(({ frame }) => frame.type === 'hello').length === 2,
      'a second hello',
    )
    const hellos = coordinator.frames.map(({ frame }) => frame).filter((frame) => frame.type === 'hello')
    expect(hellos).toMatchObject([
      { generation: null, epoch: 0, incarnation: a.incarnation },
      { generation: 1, epoch: 1, incarnation: a.incarnation },
    ])
    await coordinator.until(() => a.status().isConnected, 'the connection')
    await coordinator.cut(['a'])
  })

  test('work goes on while Stillpoint is away, and when it comes back on the same port', async () => {
    const a = start('a')
    await a.joined
    const port = Number(new URL(coordinator.url).port)
    await coordinator.close()
    await coordinator.until(() => !a.status().isConnected, 'the loss')
    expect(await a.run(() => 1)).toBe(1)
    coordinator = await scriptedCoordinator({ port })
    open.push(coordinator)
    await coordinator.until(() => a.status().isConnected, 'the connection')
  })

  test.each<[string, Partial<JoinOptions>]>([
    ['"token"', { tokenFile: '/nowhere', token: testToken }],
    ['"server"', { server: 'ftp://x' }],
    ['"server"', { server: 'http://user:secret@host' }],
    ['messageBytesMax', { messageBytesMax: 0 }],
    ['not a valid name', { name: 'a/b' }],
  ])('names the wrong option: %s', (naming, wrong) => {
    const options = { name: 'a', server: 'http://127.0.0.1:1', token: testToken, ...wrong }
    expect(() => join(options)).toThrow(naming)
  })

  test('an order that cannot be read ends the connection, not the service', async () => {
    const a = start('a')
    await a.joined
    coordinator.connected.get('a')?.socket.send('{"type":"order","order":{"type":"mark"}}')
    await coordinator.until(() => a.errors.some(({ code }) => code === 'frame_invalid'), 'the error')
    await coordinator.until(
      () => coordinator.frames.filter(({ frame }) => frame.type === 'hello').length === 2,
      'rejoining',
    )
  })
})

describe('the state', () => {
  test('is that of the mark, although the parts stream later; the handle is released once', async () => {
    let live = 'before'
    let released = 0
    const a = start('a', {
      state: {
        capture: () => {
          const pinned = live
          return {
            parts: {
              bytes: new Uint8Array([1, 2, 3]),
              stream: async function* () {
                yield Buffer.from(`${pinned} `)
                await pause(5)
                yield Buffer.from(pinned)
              },
            },
            release: () => {
              released += 1
            },
          }
        },
        restore: () => {},
      },
    })
    await a.joined
    const result = await coordinator.cut(['a'], {
      before: (step) => {
        if (step === 'capture') live = 'after'
        // Two failures that pass: the upload is repeated from the same handle.
        if (step === 'capture') coordinator.failures = 2
      },
    })
    expect(result.uploads.get('a')?.get('state/stream')?.toString()).toBe('before before')
    expect(result.uploads.get('a')?.get('state/bytes')).toEqual(Buffer.from([1, 2, 3]))
    expect(released).toBe(1)
    const progress = coordinator.facts.filter(({ fact }) => fact.type === 'captureProgressed')
    expect(progress.at(-1)?.fact).toMatchObject({ files: 2 })
  })

  test('is not marked while work runs, and no work runs while it is marked', async () => {
    let isRunning = false
    const overlaps: string[] = []
    const capturing = Promise.withResolvers<void>()
    const a = start('a', {
      state: {
        capture: async () => {
          if (isRunning) overlaps.push('capture while work runs')
          capturing.resolve()
          await pause(30)
          if (isRunning) overlaps.push('work began during the capture')
          return {}
        },
        restore: () => {},
      },
    })
    await a.joined
    const work = (): Promise<void> =>
      a.run(async () => {
        isRunning = true
        await pause(20)
        isRunning = false
      })
    const first = work()
    const cut = coordinator.cut(['a'])
    await capturing.promise
    const second = work()
    const result = await cut
    await Promise.all([first, second])
    expect(overlaps).toEqual([])
    expect(result.marks.get('a')?.openHandlers).toEqual([])
  })

  const broken: readonly [string, StateHooks['capture'], string][] = [
    ['throws', () => Promise.reject(new Error('disk gone')), 'disk gone'],
    ['answers nothing', () => undefined as never, 'JSON'],
    ['names a part badly', () => ({ parts: { '../x': new Uint8Array(1) } }), '../x'],
  ]
  test.each(broken)('a capture that %s fails the cut by name, and the gate opens again', async (_, capture, naming) => {
    const a = start('a', { state: { capture, restore: () => {} } })
    await a.joined
    await expect(coordinator.cut(['a'])).rejects.toThrow(naming)
    expect(await a.run(() => 'goes on')).toBe('goes on')
  })

  test('a part that breaks while it streams fails the capture', async () => {
    const parts = {
      half: async function* () {
        yield new Uint8Array(10)
        throw new Error('handle lost')
      },
    }
    const a = start('a', { state: { capture: () => ({ parts }), restore: () => {} } })
    await a.joined
    await expect(coordinator.cut(['a'])).rejects.toThrow('handle lost')
    expect(a.errors[0]?.code).toBe('state_unreadable')
  })

  test('a capture that takes too long is given up, and its handle released when it comes', async () => {
    let released = 0
    const late = {
      parts: { x: new Uint8Array(1) },
      release: () => {
        released += 1
      },
    }
    const go = Promise.withResolvers<typeof late>()
    const a = start('a', { state: { capture: () => go.promise, restore: () => {} } })
    await a.joined
    await expect(coordinator.cut(['a'], { leaseMs: 100 })).rejects.toThrow('mark_timed_out')
    expect(await a.run(() => 'goes on')).toBe('goes on')
    expect(released).toBe(0)
    go.resolve(late)
    await coordinator.until(() => released === 1, 'the release')
  })
})

describe('a restore', () => {
  const counting = (): { state: StateHooks; value: number; restores: number } => {
    const box = {
      value: 7,
      restores: 0,
      state: {
        capture: () => ({ value: box.value }),
        restore: ({ value }: { readonly value: unknown }) => {
          box.restores += 1
          if (typeof value !== 'object' || value === null || !('value' in value)) throw new Error('no value')
          box.value = Number(value.value)
        },
      },
    }
    return box
  }

  test('that waits for a starting process comes before anything is served', async () => {
    const first = counting()
    const a = start('a', { state: first.state })
    await a.joined
    const result = await coordinator.cut(['a'])
    expect(stateOf(result, 'a')).toEqual({ value: 7 })
    await a.close({ flushMs: 1 })
    coordinator.stage('r1', result)
    coordinator.offer = { restore: 'r1', snapshot: 's1', generation: 2, epoch: 9 }
    coordinator.failures = 2 // The agent is not well at first.
    const second = counting()
    second.value = 0
    const again = start('a', { state: second.state })
    await again.joined
    expect(second).toMatchObject({ value: 7, restores: 1 })
    expect(again.status()).toMatchObject({ generation: 2, epoch: 9, phase: 'serving' })
  })

  test('holds new work until its state is there', async () => {
    const box = counting()
    const go = Promise.withResolvers<void>()
    const restore: StateHooks['restore'] = async (restored) => {
      await go.promise
      box.state.restore(restored)
    }
    const a = start('a', { state: { ...box.state, restore } })
    await a.joined
    const result = await coordinator.cut(['a'])
    coordinator.stage('r1', result)
    box.value = 1_000
    coordinator.restoreAll(['a'], { restore: 'r1', snapshot: 's1', generation: 2, epoch: 9 })
    await coordinator.until(() => a.status().phase === 'restoring', 'the restore')
    const seen = a.run(() => box.value)
    await pause(20)
    go.resolve()
    expect(await seen).toBe(7)
  })

  test('is answered again, and not done again, when the answer was lost', async () => {
    const box = counting()
    const a = start('a', { state: box.state })
    await a.joined
    coordinator.stage('r1', await coordinator.cut(['a']))
    const restored = (): number => coordinator.frames.filter(({ frame }) => frame.type === 'restored').length
    coordinator.restoreAll(['a'], { restore: 'r1', snapshot: 's1', generation: 2, epoch: 9 })
    await coordinator.until(() => restored() === 1, 'the first answer')
    coordinator.connected.get('a')?.socket.terminate()
    await coordinator.until(() => restored() === 2, 'the second answer')
    expect(box.restores).toBe(1)
  })

  test('that fails is reported, serves nothing, and can be offered again', async () => {
    const box = counting()
    let isBroken = true
    const state = {
      ...box.state,
      restore: (restored: { readonly value: unknown }) => {
        if (isBroken) throw new Error('no memory')
        box.state.restore({ value: restored.value, parts: new Map() } as never)
      },
    }
    const a = start('a', { state })
    await a.joined
    coordinator.stage('r1', await coordinator.cut(['a']))
    const offer = { restore: 'r1', snapshot: 's1', generation: 2, epoch: 9 }
    coordinator.restoreAll(['a'], offer)
    await coordinator.until(() => coordinator.frames.some(({ frame }) => frame.type === 'restoreFailed'), 'the failure')
    let served = false
    const work = a.run(() => {
      served = true
    })
    const ref = coordinator.newRef()
    const role = {
      kind: 'process',
      incarnation: a.incarnation,
      gated: false,
      owns: [],
      handlerMs: 1,
      leaseMs: 1,
    } as const
    coordinator.order('a', { type: 'prepare', ref, role })
    await expect(coordinator.fact('a', 'ready', ref)).rejects.toThrow('restoring')
    expect(served).toBe(false)
    isBroken = false
    coordinator.restoreAll(['a'], offer)
    await work
    expect(served).toBe(true)
  })

  test('of a process whose handler does not end is reported, and touches nothing', async () => {
    const box = counting()
    const a = start('a', { state: box.state, restoreHandlersMs: 50 })
    await a.joined
    coordinator.stage('r1', await coordinator.cut(['a']))
    void a.run(() => new Promise(() => {}))
    await pause(5)
    coordinator.restoreAll(['a'], { restore: 'r1', snapshot: 's1', generation: 2, epoch: 9 })
    await coordinator.until(() => coordinator.frames.some(({ frame }) => frame.type === 'restoreFailed'), 'the failure')
    expect(a.errors[0]?.code).toBe('restore_handlers_running')
    expect(box.restores).toBe(0)
  })
})
