// Builds WhatsApp's message from the port's content (`holdfast.delivery.kinds`). The same content always gives the same
// message, so that a recipient who asks for a message again gets what was sent. Fetches nothing: no link previews.

import { isJidGroup, isJidNewsletter, isJidStatusBroadcast, proto } from 'baileys'

const { REVOKE, MESSAGE_EDIT } = proto.Message.ProtocolMessage.Type

/** Content from which this bridge can't build a message. */
export class BadContent extends Error {}

// Phones show a text status in large letters on a colour.
const STATUS_LOOK = { backgroundArgb: 0xff1f6f5c, textArgb: 0xffffffff, font: proto.Message.ExtendedTextMessage.FontType.SYSTEM }

// Every kind that can be sent. A new kind is one entry here, under the name that `holdfast.delivery.kinds` gives it.
//   fields    required fields, by type; the API has checked the rest
//   make      (body, {chat, nowMs, uploaded}) -> fields of proto.Message
//   isMedia   its file is uploaded first
//   isTimed   the message contains the time, so building it again gives a different message
//   isChange  it changes another message: it has no context of its own, and disappears with that message
//   stanza    attributes and child nodes that Baileys' sendMessage adds, as options of relayMessage
const KINDS = {
  text: { make: (text, { chat }) => ({ extendedTextMessage: { text, ...(isJidStatusBroadcast(chat) && STATUS_LOOK) } }) },
  image: media(({ mimetype, caption }, uploaded) => ({ imageMessage: { ...uploaded, mimetype, caption } })),
  video: media(({ mimetype, caption, gif }, uploaded) => ({
    videoMessage: { ...uploaded, mimetype, caption, gifPlayback: gif || undefined }
  })),
  audio: media(({ mimetype, voice }, uploaded) => ({ audioMessage: { ...uploaded, mimetype, ptt: voice || undefined } })),
  document: media(({ mimetype, caption, filename }, uploaded) => ({
    documentMessage: { ...uploaded, mimetype, caption, fileName: filename ?? 'file' }
  })),
  sticker: media(({ mimetype }, uploaded) => ({ stickerMessage: { ...uploaded, mimetype } })),
  location: {
    fields: { latitude: 'number', longitude: 'number' },
    make: ({ latitude, longitude, name, address }) => ({
      locationMessage: { degreesLatitude: latitude, degreesLongitude: longitude, name, address }
    })
  },
  contact: {
    fields: { name: 'string', vcard: 'string' },
    make: ({ name, vcard }) => ({ contactMessage: { displayName: name, vcard } })
  },
  poll: {
    fields: { text: 'string', options: 'list' },
    make: ({ text, options, selectable = 0 }) => ({
      // Clients send a poll in which one option can be chosen as V3.
      [selectable === 1 ? 'pollCreationMessageV3' : 'pollCreationMessage']: {
        name: text,
        options: options.map(optionName => ({ optionName })),
        selectableOptionsCount: selectable
      }
    }),
    stanza: { additionalNodes: [{ tag: 'meta', attrs: { polltype: 'creation' } }] }
  },
  reaction: {
    fields: { emoji: 'string', whatsappId: 'string' },
    isTimed: true,
    isChange: true,
    make: ({ emoji, whatsappId, fromMe, sender }, { chat, nowMs }) => ({
      reactionMessage: { key: keyOf(chat, whatsappId, fromMe, sender), text: emoji, senderTimestampMs: nowMs }
    })
  },
  edit: {
    fields: { whatsappId: 'string', text: 'string' },
    isTimed: true,
    isChange: true,
    stanza: { additionalAttributes: { edit: '1' } },
    make: ({ whatsappId, text }, { chat, nowMs }) => ({
      protocolMessage: {
        key: keyOf(chat, whatsappId, true),
        editedMessage: { extendedTextMessage: { text } },
        timestampMs: nowMs,
        type: MESSAGE_EDIT
      }
    })
  },
  delete: {
    fields: { whatsappId: 'string' },
    isChange: true,
    stanza: { additionalAttributes: { edit: '7' } },
    make: ({ whatsappId }, { chat }) => ({ protocolMessage: { key: keyOf(chat, whatsappId, true), type: REVOKE } })
  }
}

function media(make) {
  return { isMedia: true, fields: { file: 'string', mimetype: 'string' }, make: (body, { uploaded }) => make(body, uploaded) }
}

// Options of any kind. `typing` and `audience` are part of the stored content, but are meant for the senders of messages.
const OPTIONS = new Set(['audience', 'disappearingS', 'mentions', 'replyTo', 'typing'])

/** The single kind of a content with all required fields; throws `BadContent` when it is none that can be sent. */
export function kindOf(content) {
  const kind = nameOf(content)
  if (kind === 'text') requireType('text', content.text, 'string')
  for (const [field, type] of Object.entries(KINDS[kind].fields ?? {})) {
    requireType(`${kind}.${field}`, content[kind]?.[field], type)
  }
  return kind
}

function nameOf(content) {
  const kinds = Object.keys(content).filter(name => !OPTIONS.has(name))
  if (kinds.length !== 1 || !Object.hasOwn(KINDS, kinds[0])) {
    throw new BadContent(`no such kind of content: ${kinds.join(', ') || 'empty'}`)
  }
  return kinds[0]
}

export const isMedia = kind => Boolean(KINDS[kind].isMedia)

/**
 * Whether building it again gives a different message: media are uploaded under random keys, other kinds contain the
 * time.
 */
export const isMadeOnce = kind => Boolean(KINDS[kind].isMedia || KINDS[kind].isTimed)

/**
 * The message as `proto.Message`.
 *
 * @param chat      JID of the chat, as the message will be addressed
 * @param secret    32 bytes, always the same for one message: the key of reports about it and of encrypted answers to it
 * @param nowMs     for kinds that carry a time
 * @param uploaded  fields of media that were uploaded
 */
export function makeMessage(content, { chat, secret, nowMs, uploaded }) {
  const kind = kindOf(content)
  const message = KINDS[kind].make(content[kind], { chat, nowMs, uploaded })
  const contextInfo = contextOf(content, chat)
  if (contextInfo && !KINDS[kind].isChange) Object.values(message)[0].contextInfo = contextInfo
  if (kind !== 'reaction' && !isJidNewsletter(chat)) message.messageContextInfo = { messageSecret: secret }
  return proto.Message.fromObject(message)
}

/** Options of Baileys' `relayMessage` for a content. Its file may be gone, when the message was made before. */
export const stanzaOptionsOf = content => KINDS[nameOf(content)].stanza ?? {}

function contextOf({ disappearingS, mentions, replyTo }, chat) {
  if (!disappearingS && !mentions?.length && !replyTo) return undefined
  return {
    ...(disappearingS && { expiration: disappearingS }),
    ...(mentions?.length && { mentionedJid: mentions, nonJidMentions: 0 }),
    ...(replyTo && {
      stanzaId: replyTo.whatsappId,
      participant: replyTo.sender ?? chat,
      quotedMessage: { conversation: replyTo.text ?? '' }
    })
  }
}

// In a group, the key of somebody else's message contains its sender.
function keyOf(chat, id, fromMe = false, sender) {
  return { remoteJid: chat, id, fromMe, ...(isJidGroup(chat) && !fromMe && sender && { participant: sender }) }
}

function requireType(name, value, type) {
  const given = Array.isArray(value) ? 'list' : typeof value
  if (given !== type) throw new BadContent(`${name} is ${value == null ? 'missing' : `not a ${type}`}`)
}
