/** Crashes in an explored world: of a process, and of the coordinator with what the next one finds. */
import { recoverCut } from '@stillpoint/core'
import { applyDecision, type Draft, patchFate, patchProcess, processOf, writeSnapshot } from './carry-out.ts'
import type { Downlink, World } from './model.ts'
import { type Move, spend, step } from './moves.ts'

export function crashMoves(world: World): readonly Move[] {
  const moves: Move[] = []
  if (world.coordinator === null) return [recovery(world)].filter((move) => move !== null)
  if (world.faults.crashes > 0) {
    for (const [name, { isAlive }] of Object.entries(world.processes)) {
      if (isAlive) moves.push(step(world, `${name} crashes`, (draft) => crashProcess(draft, name)))
    }
  }
  if (world.faults.takeovers > 0 && world.coordinator.phase !== 'ended') {
    moves.push(step(world, 'the coordinator crashes', crashCoordinator))
    if (world.sealing !== null) {
      const afterwards = (draft: Draft): void => {
        writeSnapshot(draft)
        crashCoordinator(draft)
      }
      moves.push(step(world, 'the coordinator crashes when the snapshot is written', afterwards))
    }
  }
  return moves
}

/** What it had in memory is gone with it: what arrived and was not handled, and what it recorded. */
function crashProcess(draft: Draft, name: string): void {
  spend(draft, 'crashes')
  const node = processOf(draft, name)
  for (const { script } of [...node.inbox, ...node.outbox]) {
    patchFate(draft, script.id, { isLost: true })
  }
  patchProcess(draft, name, { isAlive: false, inbox: [], outbox: [], running: [], own: [] })
  draft.downlinks = { ...draft.downlinks, [name]: [] }
  draft.uplinks = { ...draft.uplinks, [name]: [...(draft.uplinks[name] ?? []), 'lost'] }
  draft.outsiders = draft.outsiders.map((outsider) => ({ ...outsider, isWaiting: false }))
}

/** Its orders that are on their way still arrive; then their receivers see that the connection is gone. */
function crashCoordinator(draft: Draft): void {
  spend(draft, 'takeovers')
  draft.coordinator = null
  draft.sealing = null
  const downlinks: Record<string, readonly Downlink[]> = {}
  const uplinks: Record<string, readonly []> = {}
  for (const [name, orders] of Object.entries(draft.downlinks)) {
    downlinks[name] = draft.processes[name]?.isAlive === false ? [] : [...orders, 'lost']
    uplinks[name] = []
  }
  draft.downlinks = downlinks
  draft.uplinks = uplinks
}

/** The next coordinator: what is in the repository exists; otherwise the records decide. */
function recovery(world: World): Move | null {
  const isOver = world.records.some(({ type }) => type === 'ended')
  if (world.snapshots > 0 && !isOver) {
    const note = (draft: Draft): void => {
      draft.records = [...draft.records, { type: 'ended', outcome: { kind: 'sealed', verdict: 'consistent' } }]
    }
    return step(world, 'the next coordinator finds the snapshot', note)
  }
  const decision = recoverCut(world.records, world.coordinatorNowMs)
  if (decision === null) return null
  return step(world, 'the next coordinator takes over', (draft) => {
    applyDecision(draft, decision)
    for (const [name, { isAlive }] of Object.entries(draft.processes)) {
      // It is not connected: the shell says so instead of sending it an order.
      if (!isAlive) draft.uplinks = { ...draft.uplinks, [name]: ['lost'] }
    }
  })
}
