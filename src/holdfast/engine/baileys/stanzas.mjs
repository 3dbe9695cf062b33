// Stanzas that Baileys can't send, or only as part of something larger.

import { randomUUID } from 'node:crypto'

import { getBinaryNodeChild, getBinaryNodeChildren, isLidUser, isPnUser, jidNormalizedUser } from 'baileys'

/** Pings WhatsApp's server. */
export const ping = id => ({
  tag: 'iq',
  attrs: { id, to: 's.whatsapp.net', type: 'get', xmlns: 'w:p' },
  content: [{ tag: 'ping', attrs: {} }]
})

/** Unlinks a device of this account. */
export const removeCompanion = jid => ({
  tag: 'iq',
  attrs: { to: 's.whatsapp.net', type: 'set', xmlns: 'md' },
  content: [{ tag: 'remove-companion-device', attrs: { jid, reason: 'user_initiated' } }]
})

/** Queries WhatsApp's media servers, and an authorisation for them. */
export const askMediaServers = () => ({
  tag: 'iq',
  attrs: { type: 'set', xmlns: 'w:m', to: 's.whatsapp.net' },
  content: [{ tag: 'media_conn', attrs: {} }]
})

/** Queries which phone numbers (digits) are on WhatsApp, in which spelling, and their hidden ids. */
export const numbersOnWhatsApp = numbers =>
  usync(
    [protocol('contact'), protocol('lid')],
    numbers.map(number => user({}, { tag: 'contact', attrs: {}, content: `+${number}` }))
  )

/** Queries whose username this is. WhatsApp's own clients ask for nothing else with it. */
export const ownerOfUsername = username =>
  usync([protocol('contact', { addressing_mode: 'lid' })], [user({}, protocol('contact', { username }))])

/** Queries whether hidden ids exist (people on WhatsApp have devices), and the usernames of these people. */
export const peopleByLid = lids =>
  usync(
    [protocol('devices', { version: '2' }), protocol('username')],
    lids.map(jid => user({ jid }))
  )

const protocol = (tag, attrs = {}) => ({ tag, attrs })
const user = (attrs, ...content) => ({ tag: 'user', attrs, content })

const usync = (protocols, users) => ({
  tag: 'iq',
  attrs: { to: 's.whatsapp.net', type: 'get', xmlns: 'usync' },
  content: [
    {
      tag: 'usync',
      attrs: { context: 'interactive', mode: 'query', sid: randomUUID(), last: 'true', index: '0' },
      content: [
        { tag: 'query', attrs: {}, content: protocols },
        { tag: 'list', attrs: {}, content: users }
      ]
    }
  ]
})

/** The `user` nodes of the answer to a usync query. */
export const usersIn = answer => {
  const list = getBinaryNodeChild(getBinaryNodeChild(answer, 'usync'), 'list')
  return getBinaryNodeChildren(list, 'user')
}

/** The answer to `peopleByLid`: `{lid, exists, username?, number?}` each. */
export const hiddenIn = answer =>
  usersIn(answer)
    .filter(({ attrs }) => isLidUser(attrs.jid))
    .map(node => {
      const devices = getBinaryNodeChild(getBinaryNodeChild(node, 'devices'), 'device-list')
      const username = getBinaryNodeChild(node, 'username')?.content
      const phone = phoneIn(node)
      return {
        lid: jidNormalizedUser(node.attrs.jid),
        exists: getBinaryNodeChildren(devices, 'device').length > 0,
        ...(username?.length && { username: Buffer.from(username).toString() }),
        ...(phone && { number: phone })
      }
    })

/** The JID by number of a `user` node, where WhatsApp reports it. */
export const phoneIn = ({ attrs }) => {
  const phone = [attrs.jid, attrs.pn_jid].find(isPnUser)
  return phone && jidNormalizedUser(phone)
}
