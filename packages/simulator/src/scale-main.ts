/**
 * `npm run scale [-- --part worlds|connections]`: what one cut costs, from ten to ten thousand processes in one simulated
 * world, and from ten to a thousand real connections on one machine, as markdown with the growth fitted.
 */
import { parseArgs } from 'node:util'
import { type ConnectionsMeasured, connectionColumns, measureConnections } from './scale/connections.ts'
import { ScaleWorld } from './scale/scale-world.ts'
import { type Measured, measure, tableOf, worldColumns } from './scale/table.ts'
import { type TopologyName, topologies } from './scale/topology.ts'

const { values } = parseArgs({
  options: {
    part: { type: 'string' },
    /** Of a child: one world, or one server with its connections; its figures as JSON. */
    one: { type: 'string' },
    processes: { type: 'string', default: '10' },
  },
})

const sizes: Readonly<Record<TopologyName, readonly number[]>> = {
  ring: [10, 100, 1_000, 10_000],
  mesh: [10, 30, 100, 300],
  star: [10, 100, 1_000],
}
const about: Readonly<Record<TopologyName, string>> = {
  ring: 'a ring with three more channels from each process: four channels per process, all of them used',
  mesh: 'everybody has a channel to everybody; the same four per process carry messages',
  star: 'one process has a channel to and from each other',
}

function isTopology(name: string): name is TopologyName {
  return Object.hasOwn(topologies, name)
}

async function showWorlds(): Promise<void> {
  for (const name of ['ring', 'mesh', 'star'] as const) {
    const rows: Measured[] = []
    for (const processes of sizes[name]) rows.push(await measure<Measured>(name, processes))
    console.log(`\n${name}: ${about[name]}\n\n${tableOf(worldColumns, rows)}`)
  }
}

/** The first cut starts everything up; the second is the one that is shown. */
const rounds = 2

async function showConnections(): Promise<void> {
  const rows: ConnectionsMeasured[] = []
  for (const processes of [10, 100, 1_000]) rows.push(await measure<ConnectionsMeasured>('connections', processes))
  console.log(`\nreal connections, by the SDK over WebSockets\n\n${tableOf(connectionColumns, rows)}`)
}

if (values.one === 'connections') {
  process.stdout.write(JSON.stringify(await measureConnections(Number(values.processes), rounds)))
} else if (values.one !== undefined) {
  if (!isTopology(values.one)) throw new Error(`There is no topology "${values.one}"`)
  const world = new ScaleWorld({ topology: values.one, processes: Number(values.processes), seed: 1 })
  const findings = await world.run()
  if (findings.length > 0) throw new Error(findings.slice(0, 10).join('\n'))
  const rssBytes = process.resourceUsage().maxRSS * 1_024
  process.stdout.write(JSON.stringify({ ...world.counts, rssBytes } satisfies Measured))
} else {
  if (values.part !== 'connections') await showWorlds()
  if (values.part !== 'worlds') await showConnections()
}
