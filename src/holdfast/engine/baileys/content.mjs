// Makes WhatsApp's message of the port's content (`holdfast.delivery.content`): the same message each time from the
// same content, so that what a recipient asks for again is what was sent. Fetches nothing: no previews of links.

import { isJidGroup, proto } from 'baileys'

const { REVOKE, MESSAGE_EDIT } = proto.Message.ProtocolMessage.Type

/** Content that this bridge can't make a message of. */
export class BadContent extends Error {}

// Each: (part of the content, {chat, nowMs, uploaded}) -> fields of proto.Message.
const MAKERS = {
  text: text => ({ extendedTextMessage: { text } }),
  image: ({ mimetype, caption }, { uploaded }) => ({ imageMessage: { ...uploaded, mimetype, caption } }),
  video: ({ mimetype, caption, gif }, { uploaded }) => ({
    videoMessage: { ...uploaded, mimetype, caption, gifPlayback: gif || undefined }
  }),
  audio: ({ mimetype, voice }, { uploaded }) => ({ audioMessage: { ...uploaded, mimetype, ptt: voice || undefined } }),
  document: ({ mimetype, caption, filename }, { uploaded }) => ({
    documentMessage: { ...uploaded, mimetype, caption, fileName: filename ?? 'file' }
  }),
  sticker: ({ mimetype }, { uploaded }) => ({ stickerMessage: { ...uploaded, mimetype } }),
  location: ({ latitude, longitude, name, address }) => ({
    locationMessage: { degreesLatitude: latitude, degreesLongitude: longitude, name, address }
  }),
  contact: ({ name, vcard }) => ({ contactMessage: { displayName: name, vcard } }),
  reaction: ({ emoji, whatsappId, fromMe, sender }, { chat, nowMs }) => ({
    reactionMessage: { key: keyOf(chat, whatsappId, fromMe, sender), text: emoji, senderTimestampMs: nowMs }
  }),
  edit: ({ whatsappId, text }, { chat, nowMs }) => ({
    protocolMessage: {
      key: keyOf(chat, whatsappId, true),
      editedMessage: { extendedTextMessage: { text } },
      timestampMs: nowMs,
      type: MESSAGE_EDIT
    }
  }),
  delete: ({ whatsappId }, { chat }) => ({ protocolMessage: { key: keyOf(chat, whatsappId, true), type: REVOKE } })
}

// `typing` is for the one who sends; it stands in what is stored.
const OPTIONS = new Set(['mentions', 'replyTo', 'typing'])
const MEDIA = new Set(['image', 'video', 'audio', 'document', 'sticker'])

// What a message can't be made without; the API has looked at the rest.
const FIELDS = {
  location: { latitude: 'number', longitude: 'number' },
  contact: { name: 'string', vcard: 'string' },
  reaction: { emoji: 'string', whatsappId: 'string' },
  edit: { whatsappId: 'string', text: 'string' },
  delete: { whatsappId: 'string' }
}
const FIELDS_OF_MEDIA = { file: 'string', mimetype: 'string' }

/** The one kind of a content; throws `BadContent` when it is not one that can be sent. */
export function kindOf(content) {
  const kinds = Object.keys(content).filter(name => !OPTIONS.has(name))
  if (kinds.length !== 1 || !Object.hasOwn(MAKERS, kinds[0])) {
    throw new BadContent(`no such kind of content: ${kinds.join(', ') || 'empty'}`)
  }
  const [kind] = kinds
  if (kind === 'text') requireType('text', content.text, 'string')
  for (const [field, type] of Object.entries(MEDIA.has(kind) ? FIELDS_OF_MEDIA : (FIELDS[kind] ?? {}))) {
    requireType(`${kind}.${field}`, content[kind]?.[field], type)
  }
  return kind
}

export const isMedia = kind => MEDIA.has(kind)

/** Whether making it again would make something else: media go up under keys of chance, the others carry the time. */
export const isMadeOnce = kind => MEDIA.has(kind) || kind === 'reaction' || kind === 'edit'

/**
 * The message as `proto.Message`.
 *
 * @param chat      JID of the chat, as the message will be addressed
 * @param secret    32 bytes, the same for the same message: what reports and encrypted answers to it are keyed by
 * @param nowMs     for kinds that carry a time
 * @param uploaded  fields of media that were uploaded
 */
export function makeMessage(content, { chat, secret, nowMs, uploaded }) {
  const kind = kindOf(content)
  const message = MAKERS[kind](content[kind], { chat, nowMs, uploaded })
  const contextInfo = contextOf(content, chat)
  if (contextInfo) Object.values(message)[0].contextInfo = contextInfo
  if (kind !== 'reaction') message.messageContextInfo = { messageSecret: secret }
  return proto.Message.fromObject(message)
}

/** What the stanza of a message must say about it besides, as Baileys' `sendMessage` says it. */
export function attributesOf(message) {
  if (!message.protocolMessage) return {}
  const edits = { [REVOKE]: '7', [MESSAGE_EDIT]: '1' }
  return { edit: edits[message.protocolMessage.type] }
}

function contextOf({ mentions, replyTo }, chat) {
  if (!mentions?.length && !replyTo) return undefined
  return {
    ...(mentions?.length && { mentionedJid: mentions, nonJidMentions: 0 }),
    ...(replyTo && {
      stanzaId: replyTo.whatsappId,
      participant: replyTo.sender ?? chat,
      quotedMessage: { conversation: replyTo.text ?? '' }
    })
  }
}

// In a group the key of another's message names its sender.
function keyOf(chat, id, fromMe = false, sender) {
  return { remoteJid: chat, id, fromMe, ...(isJidGroup(chat) && !fromMe && sender && { participant: sender }) }
}

function requireType(name, value, type) {
  if (typeof value !== type) throw new BadContent(`${name} is ${value == null ? 'missing' : `not a ${type}`}`)
}
