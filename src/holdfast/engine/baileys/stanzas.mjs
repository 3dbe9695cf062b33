// Stanzas that Baileys can't send, or only as part of something larger.

import { randomUUID } from 'node:crypto'

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
export const numbersOnWhatsApp = numbers => ({
  tag: 'iq',
  attrs: { to: 's.whatsapp.net', type: 'get', xmlns: 'usync' },
  content: [
    {
      tag: 'usync',
      attrs: { context: 'interactive', mode: 'query', sid: randomUUID(), last: 'true', index: '0' },
      content: [
        { tag: 'query', attrs: {}, content: [{ tag: 'contact', attrs: {} }, { tag: 'lid', attrs: {} }] },
        { tag: 'list', attrs: {}, content: numbers.map(number => ({ tag: 'user', attrs: {}, content: [contact(number)] })) }
      ]
    }
  ]
})

const contact = number => ({ tag: 'contact', attrs: {}, content: `+${number}` })
