#!/usr/bin/env node
// The command's entry. Plain JavaScript, so that an older Node can still read it and say what is missing.
const nodeMajorMin = 24
const nodeMajor = Number(process.versions.node.split('.')[0])
if (nodeMajor < nodeMajorMin) {
  process.stderr.write(
    `stillpoint: Node ${nodeMajorMin} or newer is needed, this is ${process.versions.node}.\n` +
      'In a checkout, start it with "npx stillpoint": "npm ci" has installed a Node 24 for it.\n',
  )
  process.exit(1)
}
const { main } = await import('../src/main.ts')
process.exitCode = await main(process.argv.slice(2))
