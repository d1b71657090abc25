/**
 * Owns trees: the list of what is in one directory, as JSON, named by its SHA-256. Field order, escaping, sorting and
 * the closing newline are restic's, so that equal directories give equal trees whoever saved them.
 *
 * Invariants of what is encoded: 1. names are single path components; 2. sorted by bytes, no two equal.
 * Decoding does not demand them: who restores must check (`unsafeName`), who lists may show what is there.
 */
import { Failure } from '@stillpoint/core/kernel'
import { sound } from './damage.ts'
import { posixPermissions, storedPermissions, typeBits } from './file-mode.ts'
import { type BlobId, blobId, type TreeId, treeId } from './ids.ts'
import {
  bytesField,
  type JsonObject,
  jsonArray,
  jsonObject,
  jsonString,
  optionalCountField,
  optionalStringField,
  parseJson,
  stringField,
  uint64Field,
} from './json.ts'
import { bytesFromName, hasRawBytes, nameFromBytes, quoteName, unquoteName } from './node-name.ts'
import { formatTimestamp, parseTimestamp, type Timestamp } from './timestamp.ts'

export interface ExtendedAttribute {
  readonly name: string
  readonly value: Uint8Array
}

export interface NodeMetadata {
  /** One path component. Bytes that are not UTF-8 are lone surrogates: see node-name.ts. */
  readonly name: string
  /** The twelve permission bits of POSIX. */
  readonly permissions: number
  readonly mtime: Timestamp
  readonly atime: Timestamp
  readonly ctime: Timestamp
  readonly uid: number
  readonly gid: number
  readonly user: string
  readonly group: string
  readonly inode: bigint
  /** Device that the directory entry was on. */
  readonly deviceId: bigint
  readonly links: bigint
  readonly extendedAttributes: readonly ExtendedAttribute[]
}

export type NodeContent =
  | { readonly type: 'file'; readonly bytes: number; readonly content: readonly BlobId[] }
  | { readonly type: 'dir'; readonly subtree: TreeId }
  | { readonly type: 'symlink'; readonly target: string }
  | { readonly type: 'dev' | 'chardev'; readonly device: bigint }
  | { readonly type: 'fifo' }
  | { readonly type: 'socket' | 'irregular' }

export type TreeNode = NodeMetadata & NodeContent
export type FileNode = Extract<TreeNode, { type: 'file' }>
export type DirNode = Extract<TreeNode, { type: 'dir' }>

/** Why a name cannot be one path component, or undefined where it can. */
export function unsafeName(name: string): string | undefined {
  if (name === '') return 'an empty name'
  if (name === '.' || name === '..') return `the name ${JSON.stringify(name)}`
  if (name.includes('/')) return `a "/" in the name ${JSON.stringify(name)}`
  if (name.includes('\0')) return `a NUL in the name ${JSON.stringify(name)}`
  return undefined
}

/**
 * The nodes as a tree, sorted.
 * @throws Failure `tree_unsafe` for a name that is no single path component, or two that are equal
 */
export function encodeTree(nodes: readonly TreeNode[]): Buffer {
  const keyed = nodes.map((node) => ({ node, key: bytesFromName(node.name) }))
  keyed.sort((left, right) => left.key.compare(right.key))
  keyed.forEach(({ node, key }, at) => {
    if (keyed[at - 1]?.key.equals(key) === true) throw unsafeTree(`two entries named ${node.name}`)
  })
  return Buffer.from(`{"nodes":[${keyed.map(({ node }) => encodeNode(node)).join(',')}]}\n`)
}

function unsafeTree(reason: string): Failure {
  return new Failure({ code: 'tree_unsafe', message: `a tree must not have ${reason}` })
}

/** The node as it stands in a tree. @throws Failure `tree_unsafe` for a name that is no single path component */
export function encodeNode(node: TreeNode): string {
  const reason = unsafeName(node.name)
  if (reason !== undefined) throw unsafeTree(reason)
  let json = `{"name":${jsonString(quoteName(node.name))},"type":"${node.type}"`
  const mode = storedPermissions(node.permissions) + typeMode(node.type)
  if (mode !== 0) json += `,"mode":${mode}`
  json += `,"mtime":"${formatTimestamp(node.mtime)}","atime":"${formatTimestamp(node.atime)}"`
  json += `,"ctime":"${formatTimestamp(node.ctime)}","uid":${node.uid},"gid":${node.gid}`
  if (node.user !== '') json += `,"user":${jsonString(node.user)}`
  if (node.group !== '') json += `,"group":${jsonString(node.group)}`
  if (node.inode !== 0n) json += `,"inode":${node.inode}`
  if (node.deviceId !== 0n) json += `,"device_id":${node.deviceId}`
  if (node.type === 'file' && node.bytes !== 0) json += `,"size":${node.bytes}`
  if (node.links !== 0n) json += `,"links":${node.links}`
  if (node.type === 'symlink') json += encodeTarget(node.target)
  if (node.extendedAttributes.length > 0) json += `,"extended_attributes":${encodeAttributes(node.extendedAttributes)}`
  if ((node.type === 'dev' || node.type === 'chardev') && node.device !== 0n) json += `,"device":${node.device}`
  json += node.type === 'file' ? `,"content":[${node.content.map((id) => `"${id}"`).join(',')}]` : ',"content":null'
  return node.type === 'dir' ? `${json},"subtree":"${node.subtree}"}` : `${json}}`
}

function encodeTarget(target: string): string {
  if (!hasRawBytes(target)) return `,"linktarget":${jsonString(target)}`
  // JSON has no words for these bytes; newer clients read them from the second field.
  const raw = bytesFromName(target).toString('base64')
  return `,"linktarget":${jsonString(target)},"linktarget_raw":"${raw}"`
}

function encodeAttributes(attributes: readonly ExtendedAttribute[]): string {
  const encoded = attributes.map(
    ({ name, value }) => `{"name":${jsonString(name)},"value":"${Buffer.from(value).toString('base64')}"}`,
  )
  return `[${encoded.join(',')}]`
}

function typeMode(type: TreeNode['type']): number {
  switch (type) {
    case 'dir':
      return typeBits.dir
    case 'symlink':
      return typeBits.symlink
    case 'dev':
      return typeBits.device
    case 'chardev':
      return typeBits.device + typeBits.charDevice
    case 'fifo':
      return typeBits.fifo
    case 'socket':
      return typeBits.socket
    case 'file':
    case 'irregular':
      return 0
  }
}

/** The nodes in the order in which they are stored. @throws DamageError */
export function decodeTree(bytes: Uint8Array): TreeNode[] {
  sound(bytes.length <= treeBytesMax, `a tree of ${bytes.length} bytes is larger than can be read`)
  // Those of a sound program are a dozen times as long: 64 MiB of the shortest nodes would take all memory.
  if (bytes.length > nodesMax * nodeBytesMin) requireFewNodes(bytes)
  const object = jsonObject(parseJson(Buffer.from(bytes).toString('utf8')), 'the tree')
  return jsonArray(object['nodes'] ?? [], 'nodes').map((value) => decodeNode(jsonObject(value, 'a node')))
}

/** Of no tree that there is. */
const noTree = treeId('0'.repeat(64))

/** Memory for a directory of so many entries is about 1 GiB. */
const nodesMax = 2 << 20
/** Of `{"name":"x","type":"file"},`. */
const nodeBytesMin = 26
/** The longest string that the system has. */
const treeBytesMax = 0x1fff_ffe8

function requireFewNodes(bytes: Uint8Array): void {
  let braces = 0
  for (let at = bytes.indexOf(0x7b); at >= 0; at = bytes.indexOf(0x7b, at + 1)) braces += 1
  sound(braces <= nodesMax + 1, `a tree of more than ${nodesMax} entries`)
}

/** A node as it stands in a tree. @throws DamageError */
export function decodeNodeText(json: string): TreeNode {
  return decodeNode(jsonObject(parseJson(json), 'a node'))
}

function decodeNode(object: JsonObject): TreeNode {
  const mtime = timeField(object, 'mtime')
  const metadata: NodeMetadata = {
    name: unquoteName(stringField(object, 'name')),
    permissions: posixPermissions(optionalCountField(object, 'mode', 0)),
    mtime,
    // Mostly the same: times are what takes longest to read.
    atime: object['atime'] === object['mtime'] ? mtime : timeField(object, 'atime'),
    ctime: timeField(object, 'ctime'),
    uid: optionalCountField(object, 'uid', 0),
    gid: optionalCountField(object, 'gid', 0),
    user: optionalStringField(object, 'user') ?? '',
    group: optionalStringField(object, 'group') ?? '',
    inode: uint64Field(object, 'inode'),
    deviceId: uint64Field(object, 'device_id'),
    links: uint64Field(object, 'links'),
    extendedAttributes: decodeAttributes(object['extended_attributes']),
  }
  return { ...metadata, ...decodeContent(object) }
}

function decodeContent(object: JsonObject): NodeContent {
  const type = stringField(object, 'type')
  switch (type) {
    case 'file': {
      const content = jsonArray(object['content'] ?? [], 'content').map((id) => blobId(id))
      return { type, bytes: optionalCountField(object, 'size', 0), content }
    }
    case 'dir':
      return { type, subtree: decodeSubtree(object['subtree']) }
    case 'symlink':
      return { type, target: decodeTarget(object) }
    case 'dev':
    case 'chardev':
      return { type, device: uint64Field(object, 'device') }
    case 'fifo':
    case 'socket':
      return { type }
    default:
      // Other kinds of other systems: shown and reported, never dropped.
      return { type: 'irregular' }
  }
}

/** Old versions of restic have left it out by mistake: the directory is lost, not what lies beside it. */
function decodeSubtree(value: unknown): TreeId {
  return value === undefined || value === null ? noTree : treeId(value, 'subtree')
}

function decodeTarget(object: JsonObject): string {
  if (object['linktarget_raw'] !== undefined) return nameFromBytes(bytesField(object, 'linktarget_raw'))
  return optionalStringField(object, 'linktarget') ?? ''
}

function decodeAttributes(value: unknown): readonly ExtendedAttribute[] {
  if (value === undefined || value === null) return []
  return jsonArray(value, 'extended_attributes').map((item) => {
    const object = jsonObject(item, 'an extended attribute')
    const empty = object['value'] === null || object['value'] === undefined
    return { name: stringField(object, 'name'), value: empty ? new Uint8Array() : bytesField(object, 'value') }
  })
}

function timeField(object: JsonObject, name: string): Timestamp {
  const text = optionalStringField(object, name)
  return text === undefined ? 0n : parseTimestamp(text)
}

/** Whether a file is unchanged, as far as its status can tell. */
export function sameFile(node: FileNode, other: Pick<FileNode, 'bytes' | 'mtime' | 'ctime' | 'inode'>): boolean {
  return (
    node.bytes === other.bytes && node.mtime === other.mtime && node.ctime === other.ctime && node.inode === other.inode
  )
}
