// Queries that Holdfast sends to WhatsApp for a person, by name, as `holdfast.session.queries` defines them. A new one
// is an entry of QUERIES. Every request to WhatsApp goes through the link's QueryLimits, by the kind of the query.

import { setTimeout as delay } from 'node:timers/promises'

import { getBinaryNodeChild, isLidUser, isPnUser, jidNormalizedUser } from 'baileys'

import { channelNamed, followedChannels } from './channels.mjs'
import { uploadedAgain } from './mediaretry.mjs'
import { pictureAddress, pictureAt } from './pictures.mjs'
import { privacyNow } from './privacy.mjs'
import { aboutMe } from './profile.mjs'
import { hiddenIn, numbersOnWhatsApp, ownerOfUsername, peopleByLid, phoneIn, usersIn } from './stanzas.mjs'

const LEARNED_AT_ONCE = 100 // members of groups: each is a row, and messages wait for the commits before them
const LEARNED_PAUSE_MS = 20

const QUERIES = {
  // Answered when the messages are stored.
  'chat-history': async ({ jid, oldest, count }, { sock, history }) => ({
    messages: await history.ask(sock, { chat: jid, oldest, count })
  }),

  'check-numbers': async ({ numbers, atOnce }, { ask }) => {
    const rows = []
    for (let from = 0; from < numbers.length; from += atOnce) {
      const part = numbers.slice(from, from + atOnce)
      rows.push(...checked(part, await ask(numbersOnWhatsApp(part))))
    }
    return rows
  },

  // Without a JID the owner of the username protects it with a key.
  'find-username': async ({ username }, { ask }) => {
    const [user] = usersIn(await ask(ownerOfUsername(username)))
    if (!user?.attrs.jid || getBinaryNodeChild(user, 'contact')?.attrs.type === 'out') return {}
    const lid = [user.attrs.jid, user.attrs.lid].find(isLidUser)
    const jid = phoneIn(user) ?? (lid && jidNormalizedUser(lid))
    return { jid, ...(lid && { lid: jidNormalizedUser(lid) }) }
  },

  'find-hidden': async ({ lids, atOnce }, { ask }) => {
    const rows = []
    for (let from = 0; from < lids.length; from += atOnce) {
      rows.push(...hiddenIn(await ask(peopleByLid(lids.slice(from, from + atOnce)))))
    }
    return rows.filter(({ lid }) => lids.includes(lid))
  },

  groups: async (_, { sock, limits }) => {
    const all = Object.values(await limits.run('w:g2', () => sock.groupFetchAllParticipating()))
    learnMembers(all, sock.signalRepository.lidMapping).catch(() => {}) // a closed link: the next list teaches them
    return all.map(described)
  },

  // Both can be missing: the text may be hidden from this account, and few people have a business profile.
  about: async ({ jid }, { sock, limits }) => {
    const [found] = (await limits.run('usync', () => sock.fetchStatus(jid))) ?? []
    const { status, setAt } = found?.status ?? {}
    const business = await limits.run('w:biz', () => sock.getBusinessProfile(jid)).catch(error => {
      if (error.data === 404) return undefined
      throw error
    })
    return {
      about: status || undefined,
      setAtS: (status && Math.floor(setAt.getTime() / 1000)) || undefined,
      business: business && businessOf(business)
    }
  },

  group: async ({ jid }, { groups }) => {
    const found = await groups.get(jid)
    return { ...described(found), members: found.participants.map(member) }
  },

  picture: async ({ jid, size }, parts) => ({
    url: await pictureAddress({ jid, type: size === 'full' ? 'image' : 'preview' }, parts)
  }),

  'picture-file': async ({ jid }, parts) => pictureAt(await pictureAddress({ jid, type: 'preview' }, parts), parts.route),

  // Answered by WhatsApp's ack.
  'reject-call': async ({ callId, creator }, { sock, limits }) => {
    await limits.run('call', () => sock.rejectCall(callId, creator))
    return {}
  },

  // WhatsApp does not confirm it, and sends presences only while this device is available itself.
  'subscribe-presence': async ({ jids }, { sock }) => {
    for (const jid of jids) await sock.presenceSubscribe(jid)
    return {}
  },

  invite: async ({ jid }, { sock, limits }) => ({ code: await limits.run('w:g2', () => sock.groupInviteCode(jid)) }),

  'invited-group': async ({ code }, { sock, limits }) => described(await limits.run('w:g2', () => sock.groupGetInviteInfo(code))),

  'join-requests': async ({ jid }, { sock, limits }) => {
    const rows = await limits.run('w:g2', () => sock.groupRequestParticipantsList(jid))
    return rows.map(({ jid: id, phone_number: phoneNumber, request_time: at, request_method: method }) => ({
      jid: personOf(phoneNumber, id),
      lid: isLidUser(id) ? jidNormalizedUser(id) : undefined,
      requestedAtS: Number(at) || undefined,
      method
    }))
  },

  blocklist: async (_, { sock, limits }) => {
    const jids = (await limits.run('blocklist', () => sock.fetchBlocklist())).filter(Boolean)
    const lids = jids.filter(isLidUser)
    const known = lids.length ? await sock.signalRepository.lidMapping.getPNsForLIDs(lids) : []
    const phones = new Map((known ?? []).map(({ lid, pn }) => [jidNormalizedUser(lid), pn]))
    return jids.map(jid => personOf(phones.get(jidNormalizedUser(jid)), jid))
  },

  profile: async (_, { sock, limits }) => {
    const { id, name } = sock.authState.creds.me
    const me = jidNormalizedUser(id)
    const about = await aboutMe({ sock, limits })
    const picture = await limits.run('w:profile:picture', () => sock.profilePictureUrl(me, 'preview')).catch(error => {
      if (error.data === 404 || error.data === 401) return undefined
      throw error
    })
    return { name, about: about || undefined, picture }
  },

  channels: (_, parts) => followedChannels(parts),

  channel: (given, parts) => channelNamed(given, parts),

  'media-again': (given, parts) => uploadedAgain(given, parts),

  privacy: (_, parts) => privacyNow(parts),

  // WhatsApp does not confirm it.
  typing: async ({ jid, state }, { sock }) => {
    await sock.sendPresenceUpdate(state, jid)
    return {}
  }
}

export class Queries {
  /**
   * @param sock    Baileys' socket
   * @param limits  the link's QueryLimits
   * @param groups  the link's Groups
   * @param history the link's History
   * @param route   the link's Route to the network
   */
  constructor({ sock, limits, groups, history, route }) {
    const ask = node => limits.run(node.attrs.xmlns, () => sock.query(node))
    this.parts = { sock, limits, groups, history, route, ask }
  }

  async run(name, given) {
    if (!Object.hasOwn(QUERIES, name)) throw new Error(`there is no query ${name}`)
    return QUERIES[name](given, this.parts)
  }
}

// WhatsApp repeats the number that was asked about, and answers with the account in its own spelling.
function checked(numbers, answer) {
  const found = new Map()
  for (const user of usersIn(answer)) {
    const contact = getBinaryNodeChild(user, 'contact')
    const asked = contact?.content && Buffer.from(contact.content).toString().replace(/\D/g, '')
    if (!asked) continue
    const lid = [getBinaryNodeChild(user, 'lid')?.attrs.val, user.attrs.jid].find(isLidUser)
    const chat = phoneIn(user) ?? (lid && jidNormalizedUser(lid))
    const isThere = contact.attrs.type === 'in' && chat
    found.set(asked, {
      number: asked,
      ...(isThere && { chat }),
      ...(isThere && lid && { lid: jidNormalizedUser(lid) })
    })
  }
  return numbers.filter(number => found.has(number)).map(number => found.get(number))
}

const described = group => ({
  id: group.id,
  subject: group.subject,
  description: group.desc,
  size: group.size || group.participants.length,
  createdAtS: group.creation || undefined,
  owner: personOf(group.ownerPn, group.owner),
  announceOnly: group.announce,
  locked: group.restrict,
  joinApproval: group.joinApprovalMode,
  membersAdd: group.memberAddMode,
  disappearingS: group.ephemeralDuration || 0,
  community: group.linkedParent,
  isCommunity: group.isCommunity
})

const member = ({ id, phoneNumber, lid, admin }) => ({
  jid: personOf(phoneNumber, id),
  lid: isLidUser(id) ? jidNormalizedUser(id) : lid && jidNormalizedUser(lid),
  role: admin === 'admin' || admin === 'superadmin' ? admin : 'member'
})

// The list of groups names each member by number and by hidden id, many of them in several groups.
async function learnMembers(groups, lidMapping) {
  const people = new Map()
  for (const { participants } of groups) {
    for (const { id, phoneNumber, lid } of participants) {
      const [hidden, pn] = [[id, lid].find(isLidUser), [phoneNumber, id].find(isPnUser)]
      if (hidden && pn) people.set(hidden, { lid: hidden, pn })
    }
  }
  const pairs = [...people.values()]
  for (let from = 0; from < pairs.length; from += LEARNED_AT_ONCE) {
    await lidMapping.storeLIDPNMappings(pairs.slice(from, from + LEARNED_AT_ONCE))
    await delay(LEARNED_PAUSE_MS)
  }
}

function businessOf({ description, category, address, email, website, business_hours: hours }) {
  return {
    description: description || undefined,
    category,
    address,
    email,
    websites: website,
    timezone: hours.timezone,
    hours: (hours.business_config ?? []).map(({ day_of_week: day, mode, open_time: opens, close_time: closes }) => ({
      day,
      mode,
      opens: timeOfDay(opens),
      closes: timeOfDay(closes)
    }))
  }
}

// WhatsApp counts the minutes of the day.
function timeOfDay(minutes) {
  const value = Number(minutes ?? NaN)
  const two = number => String(number).padStart(2, '0')
  return value >= 0 && value <= 24 * 60 ? `${two(Math.floor(value / 60))}:${two(value % 60)}` : undefined
}

// By phone number where WhatsApp reports it.
const personOf = (phoneNumber, jid) => (phoneNumber || jid ? jidNormalizedUser(phoneNumber || jid) : undefined)
