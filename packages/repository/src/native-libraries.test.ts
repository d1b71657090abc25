import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { nativeLibraries } from './native-libraries.ts'

test('native libraries are said to be there where they load, and only there', () => {
  expect(nativeLibraries().map(({ name, isLoaded }) => [name, isLoaded])).toEqual([['koffi', true]])
  // As on a platform that has no binary of them: native modules do not load.
  const program = `import { nativeLibraries } from ${JSON.stringify(fileURLToPath(new URL('./native-libraries.ts', import.meta.url)))}
    console.log(JSON.stringify(nativeLibraries().map(({ isLoaded }) => isLoaded)))`
  const args = ['--no-addons', '--input-type=module-typescript', '-e', program]
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  expect([stdout, stderr]).toEqual(['[false,false,false]\n', ''])
})
