/** Owns the `config` document: version, repository id, the polynomial of restic's chunker. Never compressed. */
import { Failure } from '@stillpoint/core/kernel'
import { sound } from './damage.ts'
import { isId } from './ids.ts'
import { countField, jsonObject, parseJson, stringField } from './json.ts'

export const repositoryVersion = 2

export interface Config {
  /** 64 hexadecimal digits, random: which repository this is, wherever it is reached. */
  readonly id: string
  readonly chunkerPolynomial: bigint
}

export function encodeConfig(config: Config): Buffer {
  const polynomial = config.chunkerPolynomial.toString(16)
  return Buffer.from(`{"version":${repositoryVersion},"id":"${config.id}","chunker_polynomial":"${polynomial}"}`)
}

/** @throws DamageError; Failure `repository_version_unsupported` */
export function decodeConfig(plaintext: Uint8Array): Config {
  const object = jsonObject(parseJson(Buffer.from(plaintext).toString('utf8')), 'the config')
  const version = countField(object, 'version')
  if (version !== repositoryVersion) {
    throw new Failure({
      code: 'repository_version_unsupported',
      message: `the repository has format version ${version}; only version ${repositoryVersion} is supported`,
      hint:
        version === 1
          ? 'Upgrade it with restic 0.14 or newer: restic migrate upgrade_repo_v2'
          : 'It was written by newer software; upgrade this program.',
    })
  }
  const id = stringField(object, 'id')
  const polynomial = stringField(object, 'chunker_polynomial')
  sound(isId(id), 'the repository id is not 64 hexadecimal digits')
  sound(/^[0-9a-f]{1,16}$/.test(polynomial), 'the chunker polynomial is not hexadecimal')
  return { id, chunkerPolynomial: BigInt(`0x${polynomial}`) }
}
