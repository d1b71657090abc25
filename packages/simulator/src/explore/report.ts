/** Explores the named worlds, or all, and prints the table. */
import { explore } from './explore.ts'
import { shapes } from './shapes.ts'

/** Answers whether all judges were content. */
export function runExplorations(names: readonly string[], statesMax: number): boolean {
  for (const name of names) {
    if (!shapes.some((shape) => shape.name === name)) {
      console.error(`There is no world "${name}". There are: ${shapes.map((shape) => shape.name).join(', ')}`)
      return false
    }
  }
  console.log('| world | what is in it | states | transitions | depth | ends: sealed, aborted | CPU s |')
  console.log('|---|---|---:|---:|---:|---:|---:|')
  let isContent = true
  for (const shape of shapes) {
    if (names.length > 0 && !names.includes(shape.name)) continue
    const found = explore(shape, { statesMax })
    const bound = found.isComplete || found.findings.length > 0 ? '' : ' (bound reached)'
    console.log(
      `| ${shape.name} | ${shape.about} | ${found.states}${bound} | ${found.transitions} | ${found.depth} ` +
        `| ${found.sealed}, ${found.aborted} | ${(found.cpuMs / 1000).toFixed(1)} |`,
    )
    if (found.findings.length === 0 && found.isComplete) continue
    isContent = false
    for (const finding of found.findings) console.error(`  found: ${finding}`)
    for (const [index, label] of found.path.entries()) console.error(`  ${String(index).padStart(3)} ${label}`)
  }
  return isContent
}
