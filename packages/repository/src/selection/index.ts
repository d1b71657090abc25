/** @stillpoint/repository/selection: which paths are meant, without the rest of the package. */
export {
  type ExcludeRules,
  type FileSystemRoot,
  type FolderMarker,
  type PatternText,
  parsePatterns,
} from './exclude-rules.ts'
export { createExcluder, type ExcludedFolder, type Excluder, folderByPath } from './excluder.ts'
export {
  anyMatches,
  type ComponentTest,
  componentTest,
  mayTellApartBelow,
  type PathPattern,
  parsePattern,
} from './path-pattern.ts'
