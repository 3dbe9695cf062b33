// Stanzas that Baileys has no words for, or none without more around them.

/** Asks WhatsApp for a sign of life. */
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

/** Asks WhatsApp for its media servers, and a pass for them. */
export const askMediaServers = () => ({
  tag: 'iq',
  attrs: { type: 'set', xmlns: 'w:m', to: 's.whatsapp.net' },
  content: [{ tag: 'media_conn', attrs: {} }]
})
