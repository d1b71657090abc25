/** A thread for tests: tells what native calls it has, and calls them until it is ended. */
import { parentPort } from 'node:worker_threads'
import { noDirectory } from '../native/linux-calls.ts'
import { libCrypto, linuxCalls } from '../native/native-calls.ts'

const [linux, crypto] = [linuxCalls(), libCrypto()]
parentPort?.postMessage([linux !== undefined, crypto !== undefined])
const [code, key, path] = [Buffer.alloc(16), Buffer.alloc(32), Buffer.from('/')]
const stream = crypto?.createKeyStream(key)
while (linux !== undefined && crypto !== undefined) {
  crypto.poly1305(code, key, key)
  stream?.begin(code)
  stream?.next(key, key)
  linux.statAt(noDirectory, path)
  linux.listAttributes(path)
}
