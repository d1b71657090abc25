/**
 * A restore of the newest consistent snapshot: every state is replaced at once, what was recorded is handed over, and
 * everybody is in a new generation. What the old one had sent is still on its way (C9).
 */
import type { World } from './world.ts'

/** Answers whether there was something to restore, and everybody was there. */
export function restoreSnapshot(world: World): boolean {
  const { durable, ledger, scenario, links } = world
  const strangers = world.strangers.there()
  const names = [...scenario.processes, ...scenario.stores.map(({ name }) => name), ...strangers]
  if (!names.every((name) => links.isJoined(name) && world.node(name).machine.isUp)) return false
  if (durable.open() !== undefined) return false
  const sealed = durable.snapshots.findLast(({ certificate }) => certificate.plan.generation === durable.generation)
  if (sealed === undefined) return false
  const observed = world.observe(sealed)
  if (observed.verdict !== 'consistent') return false
  durable.generation += 1
  let total = 0
  const amounts = new Map([...ledger.messages].map(([id, { amount }]) => [id, amount]))
  ledger.restart(0)
  for (const outsider of world.outsiders) outsider.clock = ledger.zero()
  for (const [name, { mark, recorded }] of sealed.uploads) {
    // Channel states are handed to their receivers before anything new.
    const balance = recorded.reduce((sum, id) => sum + (amounts.get(id) ?? 0), mark.tokens)
    total += balance
    const store = world.stores.get(name)
    if (store !== undefined) store.restore(balance)
    // A stranger of that cut may have left: whoever comes later begins in the generation of then.
    else if (world.processNode(name).machine.isUp)
      world.processNode(name).restore({ balance, generation: durable.generation, epoch: durable.epoch })
  }
  for (const name of strangers) {
    if (sealed.uploads.has(name)) continue
    world.processNode(name).restore({ balance: 0, generation: durable.generation, epoch: durable.epoch })
  }
  ledger.restart(total)
  world.trace('coordinator', () => `restores ${sealed.cut}: generation ${durable.generation}, ${total} tokens`)
  world.network.openAll()
  return true
}
