/**
 * What a partial restore breaks, computed from the certificate, in the words of the BAC theorem (Pardon, Pautasso,
 * Zimmermann: "Consistent Disaster Recovery for Microservices: the BAC Theorem", IEEE Cloud Computing 5(1), 2018):
 * - broken link: somebody refers to what the restored part does not have any more;
 * - orphan state: state is left that nobody refers to any more, because who made it has forgotten;
 * - missing state: what happened is in neither part any more.
 *
 * Owns: the rules, who stays behind and who is set back. Does not own: whether anything did happen since the cut; what
 * is said here may have happened.
 */
import { type Certificate, processesOf, storesOf } from '@stillpoint/core'
import { channelEnds, type ParticipantName } from '@stillpoint/core/kernel'

/** @param restored who is set back to the cut; everybody else of the plan stays as it is now */
export function damageOf(certificate: Certificate, restored: ReadonlySet<string>): readonly string[] {
  const { plan } = certificate
  if (plan.participants.every(({ name }) => restored.has(name))) return []
  const isBack = (name: ParticipantName) => restored.has(name)
  return [
    ...channelDamage(certificate, isBack),
    ...writerDamage(certificate, isBack),
    ...storeDamage(certificate, isBack),
  ]
}

type IsBack = (name: ParticipantName) => boolean

function channelDamage({ processes }: Certificate, isBack: IsBack): readonly string[] {
  const channels = new Set(Object.values(processes).flatMap(({ mark }) => mark.sent.map(({ channel }) => channel)))
  const damage: string[] = []
  for (const channel of [...channels].toSorted()) {
    const { from, to } = channelEnds(channel)
    if (isBack(from) && !isBack(to)) {
      damage.push(
        `orphan state: ${to} keeps what it received from ${from} after the cut, which ${from} forgets to have sent (${channel})`,
      )
    }
    if (!isBack(from) && isBack(to)) {
      damage.push(
        `missing state: ${to} forgets what it received from ${from} after the cut, and ${from} does not send it again (${channel})`,
      )
    }
  }
  return damage
}

function writerDamage({ plan }: Certificate, isBack: IsBack): readonly string[] {
  const damage: string[] = []
  for (const { name, writers } of storesOf(plan)) {
    if (writers === 'unknown') continue
    for (const writer of writers) {
      if (isBack(name) && !isBack(writer)) {
        damage.push(
          `broken link: ${writer} relies on what it wrote to ${name} after the cut, which ${name} does not have any more`,
        )
      }
      if (!isBack(name) && isBack(writer)) {
        damage.push(
          `orphan state: ${name} keeps what ${writer} wrote after the cut, which ${writer} forgets to have written`,
        )
      }
    }
  }
  return damage
}

/** Nobody knows who writes a quiesced store: whatever stays may refer to it, and it to whatever stays. */
function storeDamage({ plan }: Certificate, isBack: IsBack): readonly string[] {
  const damage: string[] = []
  const stays = plan.participants.filter(({ name }) => !isBack(name)).map(({ name }) => name)
  const quiesced = storesOf(plan).filter(({ writers }) => writers === 'unknown')
  for (const { name } of quiesced) {
    if (isBack(name)) {
      const others = stays.join(', ')
      damage.push(
        `broken link: what ${others} refer${stays.length === 1 ? 's' : ''} to in ${name} since the cut may not be there any more`,
      )
    }
  }
  const kept = quiesced.filter(({ name }) => !isBack(name)).map(({ name }) => name)
  const back = [...storesOf(plan), ...processesOf(plan)].filter(({ name }) => isBack(name)).map(({ name }) => name)
  for (const name of kept) {
    damage.push(
      `orphan state: ${name} keeps what was written since the cut, which ${back.join(', ')} may not know of any more`,
    )
  }
  return damage
}
