/**
 * A child process for crash tests: restores a tree, and kills itself before the step of a number. Steps are the system
 * calls that change something; with threads they cannot be counted, and it says when the restore begins.
 *
 * Arguments: repository, tree, target, what becomes of what is there, step (0: none), threads. Prints the number of steps,
 * or the failure.
 */
import fileSystem from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { describeFailure, Failure, type TreeId } from '@stillpoint/core/kernel'
import { openLocalStore } from '../blob/local-store.ts'
import type { Overwrite } from '../load/load.ts'
import { linuxCalls } from '../native/native-calls.ts'
import { openRepository } from '../repository.ts'
import { world } from './world.ts'

const [path = '', tree = '', target = '', overwrite = 'always', lastStep = '0', threads = '0'] = process.argv.slice(2)
const password = process.env['SAVE_PASSWORD'] ?? ''
let steps = 0

function counted<A extends unknown[], R>(call: (...args: A) => R): (...args: A) => R {
  return (...args) => {
    steps += 1
    if (steps === Number(lastStep)) process.kill(process.pid, 'SIGKILL')
    return call(...args)
  }
}

const repository = await openRepository({ store: openLocalStore(path), password, threads: Number(threads), ...world })
if (threads === '0') {
  fileSystem.mkdirSync = counted(fileSystem.mkdirSync) as typeof fileSystem.mkdirSync
  fileSystem.openSync = counted(fileSystem.openSync)
  fileSystem.writeSync = counted(fileSystem.writeSync as (...args: unknown[]) => number) as typeof fileSystem.writeSync
  fileSystem.ftruncateSync = counted(fileSystem.ftruncateSync)
  fileSystem.fchownSync = counted(fileSystem.fchownSync)
  fileSystem.fchmodSync = counted(fileSystem.fchmodSync)
  fileSystem.futimesSync = counted(fileSystem.futimesSync)
  fileSystem.symlinkSync = counted(fileSystem.symlinkSync)
  fileSystem.linkSync = counted(fileSystem.linkSync)
  fileSystem.renameSync = counted(fileSystem.renameSync)
  fileSystem.unlinkSync = counted(fileSystem.unlinkSync)
  syncBuiltinESMExports()
  const calls = linuxCalls()
  if (calls !== undefined) {
    const { createAt, setTimes, setTimesAt, setAttribute, removeAttribute } = calls
    Object.assign(calls, {
      createAt: counted(createAt),
      setTimes: counted(setTimes),
      setTimesAt: counted(setTimesAt),
      setAttribute: counted(setAttribute),
      removeAttribute: counted(removeAttribute),
    })
  }
} else process.stdout.write('restoring\n')
try {
  await repository.loadDirectory(tree as TreeId, target, { overwrite: overwrite as Overwrite })
  process.stdout.write(`${steps}\n`)
} catch (error) {
  if (!(error instanceof Failure)) throw error
  process.stdout.write(`${JSON.stringify(describeFailure(error))}\n`)
}
