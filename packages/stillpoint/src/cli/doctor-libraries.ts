/** The checks of `stillpoint doctor` on native libraries, of which a platform may have no build. */
import { type NativeLibrary, nativeLibraries } from '@stillpoint/repository'
import type { DoctorCheck } from './doctor-checks.ts'

export function checkLibraries(libraries: readonly NativeLibrary[] = nativeLibraries()): readonly DoctorCheck[] {
  return libraries.map(({ name, isLoaded, purpose, without }): DoctorCheck => {
    const check = { subject: 'machine', check: name }
    if (isLoaded) return { ...check, status: 'ok', detail: purpose }
    const platform = `${process.platform}-${process.arch}`
    const hint = `Install again with optional dependencies (npm install --include=optional). Where ${name} has no build for ${platform}, use another platform.`
    return { ...check, status: 'warning', detail: without, hint }
  })
}
