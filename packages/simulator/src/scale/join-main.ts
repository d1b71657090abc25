/** A child of connections.ts: many processes of a system in one, each with a connection and a state of its own. */
import { parseArgs } from 'node:util'
import { join } from '@stillpoint/sdk'

const { values } = parseArgs({
  options: {
    server: { type: 'string', default: '' },
    'token-file': { type: 'string', default: '' },
    from: { type: 'string', default: '0' },
    count: { type: 'string', default: '0' },
  },
})

process.stdin.on('end', () => process.exit()).resume() // It ends with its parent, however that ends.

const [from, count] = [Number(values.from), Number(values.count)]
const participants = Array.from({ length: count }, (_, index) => {
  const number = from + index
  return join({
    name: `p${number}`,
    server: values.server,
    tokenFile: values['token-file'],
    state: { capture: () => ({ balance: number }), restore: () => {} },
    onNote: () => {},
  })
})
await Promise.all(participants.map(({ joined }) => joined))
process.stdout.write('joined\n')
