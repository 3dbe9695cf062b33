// Message content in both directions: the port's kinds to Baileys', and WhatsApp's messages to the port's.

import { normalizeMessageContent, proto } from 'baileys'

/** Content that this bridge can't make a message of. */
export class BadContent extends Error {}

/** The port's content as Baileys' `AnyMessageContent`. */
export function toBaileys(content) {
  if (typeof content.text === 'string') {
    // null: no preview. Undefined would let Baileys fetch every address that a text mentions.
    return { text: content.text, linkPreview: null }
  }
  throw new BadContent(`no such kind of content: ${Object.keys(content).join(', ') || 'empty'}`)
}

const none = () => undefined
const caption = part => part.caption || undefined

// First match wins. Each: field of proto.Message -> [type, text of it].
const KINDS = {
  conversation: ['text', part => part],
  extendedTextMessage: ['text', part => part.text],
  imageMessage: ['image', caption],
  videoMessage: ['video', caption],
  ptvMessage: ['video', caption],
  audioMessage: ['audio', none],
  documentMessage: ['document', part => part.caption || part.fileName || undefined],
  stickerMessage: ['sticker', none],
  lottieStickerMessage: ['sticker', none],
  locationMessage: ['location', part => part.name || part.address || undefined],
  liveLocationMessage: ['location', caption],
  contactMessage: ['contact', part => part.displayName || undefined],
  contactsArrayMessage: ['contact', part => part.displayName || undefined],
  reactionMessage: ['reaction', part => part.text || undefined],
  buttonsResponseMessage: ['text', part => part.selectedDisplayText],
  templateButtonReplyMessage: ['text', part => part.selectedDisplayText],
  listResponseMessage: ['text', part => part.title],
  pollCreationMessage: ['poll', part => part.name],
  pollCreationMessageV2: ['poll', part => part.name],
  pollCreationMessageV3: ['poll', part => part.name],
  eventMessage: ['event', part => part.name]
}

// Fields that never are a message by themselves.
const WRAPPING = new Set(['messageContextInfo', 'senderKeyDistributionMessage', 'fastRatchetKeySenderKeyDistributionMessage'])

const { REVOKE, MESSAGE_EDIT } = proto.Message.ProtocolMessage.Type

/**
 * What a decoded message says to a person: `{type, text}`, or null when it says nothing to one (keys, history,
 * settings of the account).
 */
export function describe(message) {
  const content = normalizeMessageContent(message.deviceSentMessage?.message ?? message)
  if (!content) return null
  if (content.protocolMessage) return describeProtocol(content.protocolMessage)
  const fields = Object.keys(content).filter(name => content[name] != null && !WRAPPING.has(name))
  if (!fields.length) return null
  const known = fields.find(name => name in KINDS)
  if (!known) return { type: 'unknown' }
  const [type, textOf] = KINDS[known]
  return withText(type, textOf(content[known]))
}

function describeProtocol(part) {
  switch (part.type) {
    case REVOKE:
      return withText('revoke', part.key?.id)
    case MESSAGE_EDIT:
      return withText('edit', part.editedMessage ? describe(part.editedMessage)?.text : undefined)
    default:
      return null
  }
}

const withText = (type, text) => (text ? { type, text } : { type })
