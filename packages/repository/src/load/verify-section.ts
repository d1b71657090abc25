/** Owns reading back what was restored: each blob of each file, against its id. */
import { Failure } from '@stillpoint/core/kernel'
import { failed } from './attempt.ts'
import { examineSection } from './examine-section.ts'
import type { Load } from './load.ts'
import { pathOfDirectory, type Section } from './load-plan.ts'

/** Returns how many files were read. */
export async function verifySection(load: Load, section: Section): Promise<number> {
  const { files } = section
  const restored: number[] = []
  for (let file = 0; file < files.size; file += 1) {
    if (files.state(file) !== 'left' && files.state(file) !== 'planned') restored.push(file)
  }
  await examineSection(load, section, { files: restored, overwrite: 'always' }, (file, found) => {
    if (found.kind === 'file' && found.bytes === files.bytes(file) && found.there.every((isThere) => isThere === 1))
      return
    const path = `${pathOfDirectory(load.directories, files.directory(file))}${files.name(file)}`
    failed(load, path, differs(path))
  })
  return restored.length
}

function differs(path: string): Failure {
  return new Failure({
    code: 'restored_differs',
    message: `${JSON.stringify(path)} reads back with another content than was restored`,
    hint: 'Somebody else writes to the target, or its disk or memory is faulty. Restore it again, and compare.',
  })
}
