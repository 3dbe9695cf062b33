// Describes a WhatsApp message as the port's `InboundMessage`. No message is dropped silently: one that no entry of
// `KINDS` describes is reported as `unknown`, with its fields as `raw`.

import { proto } from 'baileys'

import { LIST_ITEMS } from './bounds.mjs'
import { rawOf } from './raw.mjs'

const { EPHEMERAL_SETTING, MESSAGE_EDIT, REVOKE } = proto.Message.ProtocolMessage.Type
const { EVENT_EDIT } = proto.Message.SecretEncryptedMessage.SecretEncType
const DEEPEST = 10 // nested wrappers

// Messages that only wrap another one; `commentMessage` and `deviceSentMessage` wrap one too, with fields of their own.
const WRAPPERS = new Set([
  'associatedChildMessage', 'botForwardedMessage', 'botInvokeMessage', 'botTaskMessage', 'commentMessage', 'deviceSentMessage',
  'documentWithCaptionMessage', 'editedMessage', 'ephemeralMessage', 'eventCoverImage', 'groupMentionedMessage',
  'groupStatusMentionMessage', 'groupStatusMessage', 'groupStatusMessageV2', 'limitSharingMessage', 'lottieStickerMessage',
  'pollCreationMessageV4', 'pollCreationOptionImageMessage', 'questionMessage', 'questionReplyMessage', 'statusAddYours',
  'statusMentionMessage', 'viewOnceMessage', 'viewOnceMessageV2', 'viewOnceMessageV2Extension'
])
const VIEW_ONCE = new Set(['viewOnceMessage', 'viewOnceMessageV2', 'viewOnceMessageV2Extension'])

// Fields that are never a message on their own.
const ACCOMPANYING = new Set(['messageContextInfo', 'senderKeyDistributionMessage', 'fastRatchetKeySenderKeyDistributionMessage'])

const ACCOMPANYING_NUMBERS = new Set([2, 15, 35]) // their numbers in WAProto

// Every kind that is understood. Each: field of proto.Message -> [type, its value -> {text?, content?, target?, media?, mediaKeys?}].
const KINDS = {
  conversation: ['text', textOf],
  extendedTextMessage: ['text', part => textOf(part.text)],
  imageMessage: ['image', part => ({ ...textOf(part.caption), ...mediaOf('image', part), ...viewOnceOf(part) })],
  videoMessage: ['video', part => ({ ...textOf(part.caption), ...mediaOf('video', part), ...viewOnceOf(part) })],
  ptvMessage: ['video', part => ({ ...textOf(part.caption), ...mediaOf('video', part), content: { videoNote: true } })],
  audioMessage: ['audio', part => ({ ...mediaOf('audio', part), ...viewOnceOf(part) })],
  documentMessage: ['document', part => ({ ...textOf(part.caption), ...mediaOf('document', part) })],
  stickerMessage: ['sticker', part => mediaOf('sticker', part)],
  stickerPackMessage: ['sticker_pack', part => ({ ...textOf(part.caption), content: { stickerPack: only(part, { name: 'name', publisher: 'publisher', description: 'packDescription' }) } })],
  albumMessage: ['album', part => ({ content: { album: { images: part.expectedImageCount ?? 0, videos: part.expectedVideoCount ?? 0 } } })],

  locationMessage: ['location', part => ({ ...textOf(part.comment), content: { location: locationOf(part) } })],
  liveLocationMessage: ['location', part => ({ ...textOf(part.caption), content: { location: { ...locationOf(part), live: true } } })],
  contactMessage: ['contact', part => ({ content: { contact: contactOf(part) } })],
  contactsArrayMessage: ['contact', part => ({ content: { contacts: list(part.contacts).map(contactOf) } })],

  reactionMessage: ['reaction', part => ({ ...targetOf(part.key), content: { reaction: { emoji: part.text ?? '' } } })],
  encReactionMessage: ['reaction', part => sealedOf('Enc Reaction', part.targetMessageKey, part)],
  pinInChatMessage: ['pin', part => ({ ...targetOf(part.key), content: { pin: { pinned: part.type !== 2 } } })],
  keepInChatMessage: ['keep', part => ({ ...targetOf(part.key), content: { keep: { kept: part.keepType !== 2 } } })],
  encCommentMessage: ['comment', part => sealedOf('Enc Comment', part.targetMessageKey, part)],
  secretEncryptedMessage: ['edit', part => sealedOf(part.secretEncType === EVENT_EDIT ? 'Event Edit' : undefined, part.targetMessageKey, part)],

  buttonsMessage: ['buttons', part => ({
    ...headerMediaOf(part),
    ...choicesOf({ title: part.text, body: part.contentText, footer: part.footerText, options: list(part.buttons).map(buttonOf) })
  })],
  listMessage: ['list', part => choicesOf({
    title: part.title,
    body: part.description,
    footer: part.footerText,
    button: part.buttonText,
    options: list(part.sections).flatMap(section => list(section.rows).map(row => ({ id: row.rowId, title: row.title, description: row.description, section: section.title })))
  })],
  templateMessage: ['template', templateOf],
  highlyStructuredMessage: ['template', part => part.hydratedHsm ? templateOf(part.hydratedHsm) : textOf(list(part.params).join('\n'))],
  interactiveMessage: ['interactive', interactiveOf],
  buttonsResponseMessage: ['text', part => selectedOf(part.selectedButtonId, part.selectedDisplayText)],
  templateButtonReplyMessage: ['text', part => selectedOf(part.selectedId, part.selectedDisplayText)],
  listResponseMessage: ['text', part => selectedOf(part.singleSelectReply?.selectedRowId, part.title, part.description)],
  interactiveResponseMessage: ['text', part => {
    const { name, paramsJson } = part.nativeFlowResponseMessage ?? {}
    const params = parsed(paramsJson)
    const { text, content } = selectedOf(params?.id, part.body?.text)
    return { text, content: { selected: compact({ ...content.selected, flow: name, params }) } }
  }],

  pollCreationMessage: ['poll', pollOf],
  pollCreationMessageV2: ['poll', pollOf],
  pollCreationMessageV3: ['poll', pollOf],
  pollCreationMessageV5: ['poll', pollOf],
  pollUpdateMessage: ['poll_vote', part => sealedOf('Poll Vote', part.pollCreationMessageKey, part.vote)],
  pollResultSnapshotMessage: ['poll_result', pollResultOf],
  pollResultSnapshotMessageV3: ['poll_result', pollResultOf],
  eventMessage: ['event', part => ({
    ...textOf(part.name),
    content: {
      event: compact({
        ...only(part, { name: 'name', description: 'description', joinLink: 'joinLink' }),
        startsAt: timeOf(part.startTime),
        endsAt: timeOf(part.endTime),
        location: part.location ? locationOf(part.location) : undefined,
        cancelled: part.isCanceled || undefined
      })
    }
  })],
  encEventResponseMessage: ['event_response', part => sealedOf('Event Response', part.eventCreationMessageKey, part)],

  orderMessage: ['order', part => ({
    ...textOf(part.message || part.orderTitle),
    content: { order: compact({ ...only(part, { id: 'orderId', title: 'orderTitle', items: 'itemCount', seller: 'sellerJid', token: 'token' }), ...priceOf(part.totalAmount1000, part.totalCurrencyCode) }) }
  })],
  productMessage: ['product', part => ({
    ...textOf(lines(part.body, part.product?.title, part.product?.description, part.footer)),
    content: { product: compact({ ...only(part.product ?? {}, { id: 'productId', title: 'title', description: 'description', url: 'url', retailerId: 'retailerId' }), seller: part.businessOwnerJid, ...priceOf(part.product?.priceAmount1000, part.product?.currencyCode) }) }
  })],
  invoiceMessage: ['invoice', part => ({ ...textOf(part.note), ...rawOf({ invoiceMessage: part }) })],
  requestPaymentMessage: ['payment', part => ({
    ...noteOf(part.noteMessage),
    content: { payment: compact({ requested: true, from: part.requestFrom, ...priceOf(part.amount1000, part.currencyCodeIso4217) }) }
  })],
  sendPaymentMessage: ['payment', part => ({ ...noteOf(part.noteMessage), ...targetOf(part.requestMessageKey), content: { payment: { requested: false } } })],
  declinePaymentRequestMessage: ['payment', part => ({ ...targetOf(part.key), content: { payment: { declined: true } } })],
  cancelPaymentRequestMessage: ['payment', part => ({ ...targetOf(part.key), content: { payment: { cancelled: true } } })],
  paymentInviteMessage: ['payment', () => ({ content: { payment: { invite: true } } })],

  groupInviteMessage: ['group_invite', part => ({
    ...textOf(part.caption || part.groupName),
    content: { invite: compact({ group: part.groupJid, code: part.inviteCode, name: part.groupName, expiresAt: timeOf(part.inviteExpiration) }) }
  })],
  newsletterAdminInviteMessage: ['channel_invite', channelInviteOf],
  newsletterFollowerInviteMessageV2: ['channel_invite', channelInviteOf],
  call: ['call', part => rawOf({ call: part })],
  callLogMesssage: ['call', part => ({ content: { call: compact({ video: Boolean(part.isVideo), outcome: part.callOutcome, seconds: numberOf(part.durationSecs) }) } })],
  bcallMessage: ['call', part => textOf(part.caption)],
  scheduledCallCreationMessage: ['call', part => ({ ...textOf(part.title), content: { call: compact({ video: part.callType === 2, startsAt: timeOf(part.scheduledTimestampMs, 1) }) } })],
  scheduledCallEditMessage: ['call', part => ({ ...targetOf(part.key), content: { call: { cancelled: true } } })],
  requestPhoneNumberMessage: ['phone_number_request', () => ({})],
  questionResponseMessage: ['text', part => ({ ...textOf(part.text), ...targetOf(part.key) })],
  statusQuestionAnswerMessage: ['text', part => ({ ...textOf(part.text), ...targetOf(part.key) })]
}

/**
 * `{type, text?, content?, target?, media?, mediaKeys?, sealed?, messageSecret?}` of a decoded message, or null when it
 * has nothing for people (keys, history, settings of the account). JIDs in it are as the sender wrote them.
 * `sealed`: an encrypted answer to `target`, for `answerOf`. `messageSecret`: decrypts encrypted answers to this one.
 */
export function describe(message) {
  const { inner, marks, target } = unwrapped(message)
  if (inner.protocolMessage) return describeProtocol(inner.protocolMessage)
  const fields = Object.keys(inner).filter(name => inner[name] != null && !ACCOMPANYING.has(name))
  if (!fields.length) return isEmptyWrapper(message, inner) ? { type: 'unknown', ...rawOf(message) } : null
  const known = fields.find(name => Object.hasOwn(KINDS, name))
  const [type, describeKind] = known ? KINDS[known] : ['unknown', () => rawOf(Object.fromEntries(fields.map(name => [name, inner[name]])))]
  const described = describeKind(known && inner[known])
  const content = { ...described.content, ...contextOf(inner[fields[0]]?.contextInfo), ...marks }
  const messageSecret = base64((inner.messageContextInfo ?? message.messageContextInfo)?.messageSecret?.slice(0, 32))
  return compact({ type, target, ...described, content: Object.keys(content).length ? content : undefined, messageSecret })
}

/**
 * What a decoded message says about the timer of disappearing messages in its chat: `{disappearingS, setAtS?}`, in
 * seconds, or null. Somebody sets the timer, or writes in a chat that has one.
 */
export function timerOf(message) {
  const { inner } = unwrapped(message)
  const { protocolMessage: setting } = inner
  if (setting) return setting.type === EPHEMERAL_SETTING ? { disappearingS: setting.ephemeralExpiration ?? 0 } : null
  const context = Object.values(inner).find(part => part?.contextInfo)?.contextInfo
  const disappearingS = context?.expiration ?? 0
  const setAtS = numberOf(context?.ephemeralSettingTimestamp)
  return disappearingS || setAtS ? { disappearingS, setAtS } : null
}

/**
 * Describes a message whose fields this version of Baileys' protocol definition does not know: that there is one, and
 * the numbers of its fields. Null when it has no such fields, as with keys that arrive alone.
 */
export function describeUnknown(bytes) {
  const numbers = fieldNumbers(bytes).filter(number => !ACCOMPANYING_NUMBERS.has(number))
  return numbers.length ? { type: 'unknown', content: { raw: { fieldNumbers: [...new Set(numbers)].slice(0, 64) } } } : null
}

// The field numbers at the top level, up to the first bytes that are not valid.
function fieldNumbers(bytes) {
  const numbers = []
  let at = 0
  const varint = () => {
    let value = 0
    for (let factor = 1; at < bytes.length; factor *= 128) {
      const byte = bytes[at++]
      value += (byte & 127) * factor
      if (byte < 128) return value
    }
    return Infinity
  }
  const skips = { 0: varint, 1: () => (at += 8), 2: () => (at = varint() + at), 5: () => (at += 4) }
  while (at < bytes.length) {
    const tag = varint()
    const skip = skips[tag % 8]
    if (!Number.isFinite(tag) || !skip) break
    numbers.push(Math.floor(tag / 8))
    skip()
  }
  return numbers
}

// The message inside all wrappers, and what the wrappers say about it.
function unwrapped(message) {
  const marks = {}
  let inner = message
  let target
  for (let depth = 0; depth < DEEPEST; depth++) {
    const wrapper = Object.keys(inner).find(name => WRAPPERS.has(name) && inner[name]?.message)
    if (!wrapper) break
    if (VIEW_ONCE.has(wrapper)) marks.viewOnce = true
    target ??= inner[wrapper].targetMessageKey?.id
    inner = inner[wrapper].message
  }
  return { inner, marks, target }
}

// The wrapped message has fields that this version of Baileys' protocol definition does not know.
function isEmptyWrapper(message, inner) {
  return inner !== message && Object.values(inner).every(value => value == null)
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

// -- parts of a description

function textOf(text) {
  return { text: text || undefined }
}

function targetOf(key) {
  return { target: key?.id || undefined }
}

// An answer that only people who have the answered message can decrypt.
function sealedOf(use, key, sealed) {
  const { encPayload: payload, encIv: iv } = sealed ?? {}
  const creator = key?.participant || undefined
  return { ...targetOf(key), content: { encrypted: true }, sealed: use && payload?.length && iv?.length ? { use, payload, iv, creator } : undefined }
}

function viewOnceOf({ viewOnce }) {
  return viewOnce ? { content: { viewOnce: true } } : {}
}

function contextOf(context) {
  const { mentionedJid: mentions, stanzaId, participant, quotedMessage, isForwarded, externalAdReply: ad } = context ?? {}
  return compact({
    mentions: mentions?.length ? mentions : undefined,
    replyTo: stanzaId && quotedMessage ? compact({ whatsappId: stanzaId, sender: participant }) : undefined,
    forwarded: isForwarded || undefined,
    ad: ad ? compact(only(ad, { title: 'title', body: 'body', url: 'sourceUrl', id: 'sourceId', clickId: 'ctwaClid' })) : undefined
  })
}

function choicesOf({ title, body, footer, button, options }) {
  const described = options.map(option => compact(option))
  return { ...textOf(lines(title, body, footer)), content: { choices: compact({ button, options: described }) } }
}

function selectedOf(id, title, description) {
  return { ...textOf(title), content: { selected: compact({ id, title, description }) } }
}

function buttonOf({ buttonId, buttonText, nativeFlowInfo }) {
  const params = parsed(nativeFlowInfo?.paramsJson)
  return { id: buttonId || params?.id, title: buttonText?.displayText || params?.display_text, url: params?.url }
}

function templateOf(part) {
  const template = part.hydratedTemplate ?? part.hydratedFourRowTemplate
  if (!template) return part.interactiveMessageTemplate ? interactiveOf(part.interactiveMessageTemplate) : rawOf({ templateMessage: part })
  return {
    ...headerMediaOf(template),
    ...choicesOf({
      title: template.hydratedTitleText,
      body: template.hydratedContentText,
      footer: template.hydratedFooterText,
      options: list(template.hydratedButtons).map(({ quickReplyButton: reply, urlButton: url, callButton: call }) => ({
        id: reply?.id,
        title: (reply ?? url ?? call)?.displayText,
        url: url?.url,
        phoneNumber: call?.phoneNumber
      }))
    })
  }
}

function interactiveOf({ header, body, footer, nativeFlowMessage, carouselMessage }) {
  const cards = list(carouselMessage?.cards).map(interactiveOf)
  const options = list(nativeFlowMessage?.buttons).flatMap(nativeButtonsOf)
  const own = choicesOf({ title: lines(header?.title, header?.subtitle), body: body?.text, footer: footer?.text, options })
  return {
    ...headerMediaOf(header ?? {}),
    ...textOf(lines(own.text, ...cards.map(({ text }) => text))),
    content: { choices: { ...own.content.choices, options: [...own.content.choices.options, ...cards.flatMap(({ content }) => content.choices.options)] } }
  }
}

// A single button, or a list that opens from one.
function nativeButtonsOf({ name, buttonParamsJson }) {
  const params = parsed(buttonParamsJson) ?? {}
  const rows = list(params.sections).flatMap(section => list(section?.rows).map(row => ({ id: row?.id, title: row?.title, description: row?.description, section: section.title })))
  const { id, display_text: title, url, phone_number: phoneNumber, copy_code: code } = params
  return rows.length ? rows.map(strings) : [strings({ id: id ?? name, title: title ?? params.title, url, phoneNumber, code })]
}

function headerMediaOf({ imageMessage: image, videoMessage: video, documentMessage: document }) {
  if (image) return mediaOf('image', image)
  if (video) return mediaOf('video', video)
  return document ? mediaOf('document', document) : {}
}

function pollOf(part) {
  const options = list(part.options).map(({ optionName }) => optionName ?? '')
  return { ...textOf(part.name), content: { poll: compact({ options, votes: [], selectable: part.selectableOptionsCount || undefined }) } }
}

function pollResultOf({ name, pollVotes }) {
  const votes = list(pollVotes).map(({ optionName, optionVoteCount }) => ({ option: optionName ?? '', count: numberOf(optionVoteCount) ?? 0 }))
  return { ...textOf(name), content: { poll: { options: votes.map(({ option }) => option), votes } } }
}

function channelInviteOf({ newsletterJid, newsletterName, caption, inviteExpiration }) {
  return {
    ...textOf(caption || newsletterName),
    content: { invite: compact({ channel: newsletterJid, name: newsletterName, expiresAt: timeOf(inviteExpiration) }) }
  }
}

function noteOf(note) {
  return textOf(note && describe(note)?.text)
}

function priceOf(amount1000, currency) {
  const amount = numberOf(amount1000)
  return amount === undefined ? {} : { amount: amount / 1000, currency: currency || undefined }
}

function mediaOf(type, part) {
  const { mimetype, fileLength, fileName, seconds, ptt } = part
  const media = { mimetype, sizeBytes: numberOf(fileLength), filename: fileName, seconds: numberOf(seconds), voice: ptt || undefined }
  return { media: compact(media), mediaKeys: keysOf(type, part) }
}

// The media of channels have no key. Then the hash must be there, or any file would do.
function keysOf(type, { mediaKey, directPath, url, fileSha256, fileEncSha256 }) {
  const path = directPath || pathOf(url)
  if (!path || !(mediaKey?.length || fileSha256?.length === 32)) return undefined
  return JSON.stringify({
    type,
    mediaKey: mediaKey?.length ? base64(mediaKey) : undefined,
    directPath: path,
    fileSha256: base64(fileSha256),
    fileEncSha256: base64(fileEncSha256)
  })
}

// WhatsApp names the server, never the sender.
function pathOf(url) {
  if (!URL.canParse(url)) return undefined
  const { pathname, search } = new URL(url)
  return pathname + search
}

function locationOf({ degreesLatitude: latitude, degreesLongitude: longitude, name, address }) {
  return compact({ latitude, longitude, name: name || undefined, address: address || undefined })
}

const contactOf = ({ displayName, vcard }) => ({ name: displayName ?? '', vcard: vcard ?? '' })

// -- values

// Longer lists are cut before they are reported, so the rest need not be described.
const list = values => (Array.isArray(values) ? values.slice(0, LIST_ITEMS) : [])
const lines = (...texts) => texts.filter(text => typeof text === 'string' && text).join('\n')
const base64 = bytes => (bytes?.length ? Buffer.from(bytes).toString('base64') : undefined)
const compact = fields => Object.fromEntries(Object.entries(fields).filter(([, value]) => value != null && value !== ''))
const only = (part, names) => compact(Object.fromEntries(Object.entries(names).map(([ours, theirs]) => [ours, part[theirs]])))

// Values in JSON that a sender wrote may have any type.
const strings = fields => Object.fromEntries(Object.entries(fields).filter(([, value]) => typeof value === 'string'))

function parsed(text) {
  try {
    const value = typeof text === 'string' && text.length <= 8192 ? JSON.parse(text) : undefined
    return value && typeof value === 'object' && !Array.isArray(value) ? value : undefined
  } catch {
    return undefined // not JSON; the other fields of the message are used
  }
}

// 64-bit numbers arrive as objects; an invalid number in a report would break the pipe.
function numberOf(value) {
  const number = Number(value ?? undefined)
  return Number.isSafeInteger(number) && number > 0 ? number : undefined
}

// Unix seconds, or milliseconds, as ISO 8601.
function timeOf(value, unitMs = 1000) {
  const at = new Date((numberOf(value) ?? NaN) * unitMs)
  return Number.isNaN(at.getTime()) ? undefined : at.toISOString()
}
