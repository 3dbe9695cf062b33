// What one of WhatsApp's messages says to a person, in the port's words (`InboundMessage`).

import { normalizeMessageContent, proto } from 'baileys'

const { REVOKE, MESSAGE_EDIT } = proto.Message.ProtocolMessage.Type

const none = () => ({})
const textOf = text => ({ text: text || undefined })

// First match wins. Each: field of proto.Message -> [type, what it says].
const KINDS = {
  conversation: ['text', textOf],
  extendedTextMessage: ['text', part => textOf(part.text)],
  imageMessage: ['image', part => ({ ...textOf(part.caption), ...mediaOf('image', part) })],
  videoMessage: ['video', part => ({ ...textOf(part.caption), ...mediaOf('video', part) })],
  ptvMessage: ['video', part => ({ ...textOf(part.caption), ...mediaOf('video', part) })],
  audioMessage: ['audio', part => mediaOf('audio', part)],
  documentMessage: ['document', part => ({ ...textOf(part.caption), ...mediaOf('document', part) })],
  stickerMessage: ['sticker', part => mediaOf('sticker', part)],
  lottieStickerMessage: ['sticker', none],
  locationMessage: ['location', locationOf],
  liveLocationMessage: ['location', part => ({ ...textOf(part.caption), ...locationOf(part) })],
  contactMessage: ['contact', part => ({ content: { contact: contactOf(part) } })],
  contactsArrayMessage: ['contact', part => ({ content: { contacts: part.contacts.map(contactOf) } })],
  reactionMessage: ['reaction', part => ({ target: part.key?.id || undefined, content: { reaction: { emoji: part.text ?? '' } } })],
  buttonsResponseMessage: ['text', part => textOf(part.selectedDisplayText)],
  templateButtonReplyMessage: ['text', part => textOf(part.selectedDisplayText)],
  listResponseMessage: ['text', part => textOf(part.title)],
  pollCreationMessage: ['poll', part => textOf(part.name)],
  pollCreationMessageV2: ['poll', part => textOf(part.name)],
  pollCreationMessageV3: ['poll', part => textOf(part.name)],
  eventMessage: ['event', part => textOf(part.name)]
}

// Fields that never are a message by themselves.
const WRAPPING = new Set(['messageContextInfo', 'senderKeyDistributionMessage', 'fastRatchetKeySenderKeyDistributionMessage'])

/**
 * `{type, text?, content?, target?, media?, mediaKeys?}` of a decoded message, or null when it says nothing to a person
 * (keys, history, settings of the account). JIDs in it are as the sender wrote them.
 */
export function describe(message) {
  const said = normalizeMessageContent(message.deviceSentMessage?.message ?? message)
  if (!said) return null
  if (said.protocolMessage) return describeProtocol(said.protocolMessage)
  const fields = Object.keys(said).filter(name => said[name] != null && !WRAPPING.has(name))
  if (!fields.length) return null
  const known = fields.find(name => Object.hasOwn(KINDS, name))
  if (!known) return { type: 'unknown' }
  const [type, tell] = KINDS[known]
  const told = tell(said[known])
  const content = { ...told.content, ...contextOf(said[known].contextInfo) }
  return compact({ type, ...told, content: Object.keys(content).length ? content : undefined })
}

function describeProtocol({ type, key, editedMessage }) {
  switch (type) {
    case REVOKE:
      return compact({ type: 'revoke', target: key?.id })
    case MESSAGE_EDIT: {
      const { text, content } = (editedMessage && describe(editedMessage)) ?? {}
      return compact({ type: 'edit', target: key?.id, text, content })
    }
    default:
      return null
  }
}

function contextOf(context) {
  const { mentionedJid: mentions, stanzaId, participant, quotedMessage } = context ?? {}
  return compact({
    mentions: mentions?.length ? mentions : undefined,
    replyTo: stanzaId && quotedMessage ? compact({ whatsappId: stanzaId, sender: participant }) : undefined
  })
}

function mediaOf(type, part) {
  const { mimetype, fileLength, fileName, seconds, ptt } = part
  const media = { mimetype, sizeBytes: numberOf(fileLength), filename: fileName, seconds: numberOf(seconds), voice: ptt || undefined }
  return { media: compact(media), mediaKeys: keysOf(type, part) }
}

// Without key or path there is nothing to fetch.
function keysOf(type, { mediaKey, directPath, url, fileSha256, fileEncSha256 }) {
  const path = directPath || pathOf(url)
  if (!mediaKey?.length || !path) return undefined
  return JSON.stringify({
    type,
    mediaKey: base64(mediaKey),
    directPath: path,
    fileSha256: base64(fileSha256),
    fileEncSha256: base64(fileEncSha256)
  })
}

// The server is WhatsApp's to name, not the sender's.
function pathOf(url) {
  if (!URL.canParse(url)) return undefined
  const { pathname, search } = new URL(url)
  return pathname + search
}

function locationOf({ degreesLatitude: latitude, degreesLongitude: longitude, name, address }) {
  return { content: { location: compact({ latitude, longitude, name: name || undefined, address: address || undefined }) } }
}

const contactOf = ({ displayName, vcard }) => ({ name: displayName ?? '', vcard: vcard ?? '' })
const base64 = bytes => (bytes?.length ? Buffer.from(bytes).toString('base64') : undefined)
const compact = fields => Object.fromEntries(Object.entries(fields).filter(([, value]) => value != null && value !== ''))

// 64-bit numbers come as objects; a report with nonsense would break the pipe.
function numberOf(value) {
  const number = Number(value ?? undefined)
  return Number.isSafeInteger(number) && number > 0 ? number : undefined
}
