import { expect, test } from 'vitest'
import { checkLibraries } from './doctor-libraries.ts'

test('a library that does not load is a warning, which says what becomes of it', () => {
  expect(checkLibraries().map(({ check, status }) => [check, status])).toEqual([['koffi', 'ok']])
  const [missing] = checkLibraries([{ name: 'some-library', isLoaded: false, purpose: 'fast', without: 'slow' }])
  expect(missing).toMatchObject({ subject: 'machine', check: 'some-library', status: 'warning', detail: 'slow' })
  expect(missing?.hint).toContain('npm install')
})
