/** Real servers for tests and examples: started on free ports in temporary directories, and never left behind. */

export { type BreakingProxy, type BreakingProxyOptions, startBreakingProxy } from './breaking-proxy.ts'
export { type CephOptions, type CephServer, type CephUser, hasCeph, startCeph } from './ceph.ts'
export type { DaemonControl } from './daemon.ts'
export { type SmallDisk, smallDisk, type TemporaryDirectory, temporaryDirectory } from './directory.ts'
export { type Guardian, guard, guardDirectory, guardProcess } from './guardian.ts'
export { freePort } from './port.ts'
export { type PostgresOptions, type PostgresServer, startPostgres } from './postgres.ts'
export { type RedisOptions, type RedisServer, startRedis } from './redis.ts'
export { missingRequirements, packagesOf, type Requirement, requirements } from './requirements.ts'
export { newerResticFolder, newerResticName, newestRestic, type Restic, restics } from './restic.ts'
export { hasSwift, type SwiftOptions, type SwiftServer, startSwift } from './swift.ts'
export { findTool, hasTool } from './tools.ts'
