// Operations on the account's settings (app state) and on timers of chats, for `operations.mjs`.
//
// WhatsApp answers a patch that is not based on the current version with a conflict, which Baileys does not read: it
// would believe that its change was made. Here a conflict is noticed, and the change is made once more on what WhatsApp
// has.

import { getBinaryNodeChild, getBinaryNodeChildren, isJidGroup, jidNormalizedUser } from 'baileys'

import { VERSIONS } from './appstate.mjs'

const CONFLICT = 409
const BUSY = 503
const MOST_ATTEMPTS = 3
const KIND = 'w:sync:app:state'

/** A change that WhatsApp did not accept; `data` is its code. */
const refused = code => Object.assign(new Error('WhatsApp did not accept the change'), { data: code })

/** Make a change of app state: a chat modification of Baileys. Throws when WhatsApp does not accept it. */
export async function modify({ sock, limits }, change, jid) {
  if (!sock.authState.creds.myAppStateKeyId) throw Object.assign(new Error('the phone has not shared its keys yet'), { data: BUSY })
  for (let attempt = 1; ; attempt += 1) {
    const errors = new Map() // collection -> code
    const note = node => errorsIn(node).forEach(([name, code]) => errors.set(name, code))
    sock.ws.on('frame', note)
    try {
      await limits.run(KIND, () => sock.chatModify(change, jid))
    } finally {
      sock.ws.off('frame', note)
    }
    if (!errors.size) return
    await sock.authState.keys.set({ [VERSIONS]: Object.fromEntries([...errors.keys()].map(name => [name, null])) })
    const code = [...errors.values()].find(each => each !== CONFLICT)
    if (code !== undefined) throw refused(code)
    if (attempt === MOST_ATTEMPTS) throw refused(BUSY) // others change the settings too: Holdfast tries again later
  }
}

function errorsIn(node) {
  if (node?.tag !== 'iq') return []
  const collections = getBinaryNodeChildren(getBinaryNodeChild(node, 'sync'), 'collection')
  return collections
    .filter(({ attrs }) => attrs.type === 'error')
    .map(each => [each.attrs.name, Number(getBinaryNodeChild(each, 'error')?.attrs.code ?? 500)])
}

export const ACCOUNT_OPERATIONS = {
  // Each is set to a value, so a repetition has no effect that others see.
  'update-chat': {
    async run({ chat, last, ...wanted }, parts) {
      const lastMessages = last && [{ key: keyOf(chat, last), messageTimestamp: last.atS }]
      const changed = []
      for (const [name, change] of Object.entries(CHAT_SETTINGS)) {
        if (wanted[name] === undefined) continue
        await change(parts, chat, wanted[name], lastMessages)
        changed.push(name)
      }
      return { changed }
    }
  },

  // The address book has phone numbers only.
  'save-contact': {
    async run({ jid, name, firstName, onPhone = false }, parts) {
      const lid = (await parts.sock.signalRepository.lidMapping.getLIDForPN(jid)) ?? undefined
      const lidJid = lid && jidNormalizedUser(lid)
      const contact = name ? { fullName: name, firstName, lidJid, saveOnPrimaryAddressbook: onPhone } : null
      await modify(parts, { contact }, jid)
      parts.settled('contacts.upsert', [{ id: jid, name, lid: lidJid }])
      return { saved: Boolean(name) }
    }
  },

  'edit-label': {
    async run({ label, name, color = 0, deleted = false }, parts) {
      await modify(parts, { addLabel: { id: label, name, color, deleted } }, '')
      parts.settled('labels.edit', { id: label, name, color, deleted })
      return { label }
    }
  },

  'label-chat': {
    async run({ chat, label, labelled }, parts) {
      const id = { labelId: label }
      await modify(parts, labelled ? { addChatLabel: id } : { removeChatLabel: id }, chat)
      const association = { type: 'label_jid', chatId: chat, labelId: label }
      parts.settled('labels.association', { type: labelled ? 'add' : 'remove', association })
      return { label }
    }
  },

  'star-message': {
    async run({ chat, message, fromMe, starred }, parts) {
      await modify(parts, { star: { messages: [{ id: message, fromMe }], star: starred } }, chat)
      parts.settled('messages.update', [{ key: { remoteJid: chat, id: message }, update: { starred } }])
      return { starred }
    }
  }
}

/** Set the name that people see who have not saved the account (push name). */
export async function rename(parts, name) {
  await modify(parts, { pushNameSetting: name }, '')
  const { creds } = parts.sock.authState
  parts.sock.ev.emit('creds.update', Object.assign(creds, { me: { ...creds.me, name } }))
}

const CHAT_SETTINGS = {
  archived: (parts, chat, archived, lastMessages) =>
    changed(parts, { archive: archived, lastMessages }, { id: chat, archived }),
  mutedUntilS: (parts, chat, untilS) => {
    const until = untilS === 0 ? null : untilS < 0 ? -1 : untilS * 1000
    return changed(parts, { mute: until }, { id: chat, muteEndTime: until })
  },
  pinned: (parts, chat, pinned) => changed(parts, { pin: pinned }, { id: chat, pinned: pinned ? Date.now() : null }),
  unread: (parts, chat, unread, lastMessages) =>
    changed(parts, { markRead: !unread, lastMessages }, { id: chat, unreadCount: unread ? -1 : 0 }),
  disappearingS: async (parts, chat, seconds) => {
    const { sock, limits, key } = parts
    if (isJidGroup(chat)) await limits.run('w:g2', () => sock.groupToggleEphemeral(chat, seconds))
    else await sock.sendMessage(chat, { disappearingMessagesInChat: seconds }, { messageId: key })
    parts.settled('chats.update', [{ id: chat, ephemeralExpiration: seconds }])
  },
  cleared: (parts, chat, _, lastMessages) => modify(parts, { clear: true, lastMessages: lastMessages ?? [] }, chat),
  deleted: (parts, chat, _, lastMessages) => modify(parts, { delete: true, lastMessages: lastMessages ?? [] }, chat)
}

async function changed(parts, change, update) {
  await modify(parts, change, update.id)
  parts.settled('chats.update', [update])
}

const keyOf = (chat, { id, fromMe, sender }) => ({
  remoteJid: chat,
  id,
  fromMe,
  ...(isJidGroup(chat) && !fromMe && { participant: sender })
})
