/**
 * Two counters that pass marbles to each other: the smallest system whose snapshot needs its messages in flight.
 *
 *   node packages/sdk/examples/counter.ts left  7001 ws://127.0.0.1:7002/stillpoint/channels
 *   node packages/sdk/examples/counter.ts right 7002 ws://127.0.0.1:7001/stillpoint/channels
 *
 * Environment: STILLPOINT_URL (default http://127.0.0.1:7420) and STILLPOINT_TOKEN_FILE. At every snapshot, the marbles
 * of both plus those on their way are the 200 that there were at the start.
 */
// In a service of yours: from '@stillpoint/sdk'.
import { join } from '../src/index.ts'

const [name, port, peerUrl] = process.argv.slice(2)
const tokenFile = process.env['STILLPOINT_TOKEN_FILE']
if ((name !== 'left' && name !== 'right') || port === undefined || peerUrl === undefined || tokenFile === undefined) {
  process.stderr.write('usage: STILLPOINT_TOKEN_FILE=… node counter.ts left|right PORT URL-OF-THE-OTHER\n')
  process.exit(2)
}

// All state of this process. A snapshot holds it, and a restore puts it back.
let marbles = 100

const participant = join({
  name,
  server: process.env['STILLPOINT_URL'] ?? 'http://127.0.0.1:7420',
  tokenFile,
  state: {
    capture: () => marbles,
    restore: ({ value }) => {
      marbles = Number(value)
      process.stdout.write(`restored ${marbles}\n`)
    },
  },
  onNote: (note) => process.stderr.write(`${note}\n`),
})

const other = name === 'left' ? 'right' : 'left'
participant.receive(other, (message) => {
  marbles += Number(message.text())
})
await participant.listen({ port: Number(port) })
const channel = participant.channel(other, { url: peerUrl })

// A timer is the process's own beginning, so it goes through the gate: `run`.
const timer = setInterval(() => {
  participant
    .run(async () => {
      if (marbles === 0) return
      marbles -= 1
      await channel.send('1')
    })
    .catch((error) => process.stderr.write(`${error}\n`))
}, 2)

process.once('SIGTERM', async () => {
  clearInterval(timer)
  await participant.close()
  process.stdout.write(`closed ${marbles}\n`)
})
