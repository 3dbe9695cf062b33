import assert from 'node:assert/strict'
import { test } from 'node:test'

import { proto } from 'baileys'

import { describe, describeUnknown } from './description.mjs'

const describeEncoded = message => describe(proto.Message.decode(proto.Message.encode(proto.Message.fromObject(message)).finish()))
const { Type } = proto.Message.ProtocolMessage

test('each kind of message has its type and its text', () => {
  assert.deepEqual(describeEncoded({ conversation: 'a' }), { type: 'text', text: 'a' })
  assert.deepEqual(describeEncoded({ extendedTextMessage: { text: 'a' } }), { type: 'text', text: 'a' })
})

test('media are described, and their keys are one opaque text', () => {
  const sealed = { mediaKey: Buffer.alloc(32, 1), fileSha256: Buffer.alloc(32, 2), fileEncSha256: Buffer.alloc(32, 3), directPath: '/v/1' }
  const image = describeEncoded({ imageMessage: { ...sealed, mimetype: 'image/png', fileLength: 512, caption: 'b' } })
  assert.deepEqual([image.type, image.text, image.media], ['image', 'b', { mimetype: 'image/png', sizeBytes: 512 }])
  const keys = JSON.parse(image.mediaKeys)
  assert.deepEqual([keys.type, keys.directPath, Buffer.from(keys.mediaKey, 'base64')], ['image', '/v/1', sealed.mediaKey])
  const voice = describeEncoded({ audioMessage: { ...sealed, mimetype: 'audio/ogg', seconds: 4, ptt: true } })
  assert.deepEqual(voice.media, { mimetype: 'audio/ogg', seconds: 4, voice: true })
  const document = describeEncoded({ documentMessage: { ...sealed, mimetype: 'application/pdf', fileName: 'c.pdf', caption: 'read' } })
  assert.deepEqual([document.text, document.media.filename], ['read', 'c.pdf'])
  assert.equal(JSON.parse(describeEncoded({ ptvMessage: sealed }).mediaKeys).type, 'video')
})

test('the server in a media URL is dropped: the sender must not choose which server we ask', () => {
  const named = { mediaKey: Buffer.alloc(32), url: 'http://127.0.0.1/v/1?a=b' }
  assert.equal(JSON.parse(describeEncoded({ stickerMessage: named }).mediaKeys).directPath, '/v/1?a=b')
  assert.equal(describeEncoded({ stickerMessage: { mediaKey: Buffer.alloc(32), url: 'nonsense' } }).mediaKeys, undefined)
  assert.equal(describeEncoded({ stickerMessage: { directPath: '/v/1' } }).mediaKeys, undefined)
})

test('a place, one contact, several contacts', () => {
  const { type, content } = describeEncoded({ locationMessage: { degreesLatitude: 31.5, degreesLongitude: 0, name: 'Amman' } })
  assert.deepEqual([type, content], ['location', { location: { latitude: 31.5, longitude: 0, name: 'Amman' } }])
  const layla = { displayName: 'Layla', vcard: 'BEGIN:VCARD' }
  assert.deepEqual(describeEncoded({ contactMessage: layla }), { type: 'contact', content: { contact: { name: 'Layla', vcard: 'BEGIN:VCARD' } } })
  assert.equal(describeEncoded({ contactsArrayMessage: { contacts: [layla, layla] } }).content.contacts.length, 2)
})

test('a reaction names its message, and can be removed', () => {
  const key = { id: '3A00' }
  assert.deepEqual(describeEncoded({ reactionMessage: { key, text: '👍' } }), { type: 'reaction', target: '3A00', content: { reaction: { emoji: '👍' } } })
  assert.deepEqual(describeEncoded({ reactionMessage: { key, text: '' } }).content, { reaction: { emoji: '' } })
})

test('an edit has the new text and its message, a revocation its message', () => {
  const key = { id: '3A00' }
  const edited = { protocolMessage: { type: Type.MESSAGE_EDIT, key, editedMessage: { conversation: 'better' } } }
  assert.deepEqual(describeEncoded(edited), { type: 'edit', target: '3A00', text: 'better' })
  assert.deepEqual(describeEncoded({ editedMessage: { message: edited } }), { type: 'edit', target: '3A00', text: 'better' })
  assert.deepEqual(describeEncoded({ protocolMessage: { type: Type.REVOKE, key } }), { type: 'revoke', target: '3A00' })
  assert.equal(describeEncoded({ protocolMessage: { type: Type.APP_STATE_SYNC_KEY_SHARE } }), null)
})

test('a reply names the quoted message; mentions are reported', () => {
  const contextInfo = { stanzaId: '3A00', participant: '2002@lid', quotedMessage: { conversation: 'q' }, mentionedJid: ['3003@lid'] }
  assert.deepEqual(describeEncoded({ extendedTextMessage: { text: 'a', contextInfo } }), {
    type: 'text',
    text: 'a',
    content: { mentions: ['3003@lid'], replyTo: { whatsappId: '3A00', sender: '2002@lid' } }
  })
})

test('wrappers are unwrapped', () => {
  assert.deepEqual(describeEncoded({ ephemeralMessage: { message: { conversation: 'a' } } }), { type: 'text', text: 'a' })
  assert.equal(describeEncoded({ viewOnceMessageV2: { message: { imageMessage: {} } } }).type, 'image')
  assert.equal(describeEncoded({ documentWithCaptionMessage: { message: { documentMessage: { caption: 'b' } } } }).text, 'b')
})

test('keys for a group are not a message by themselves, and don’t hide one that arrives with them', () => {
  const keys = { senderKeyDistributionMessage: { groupId: '1203@g.us' } }
  assert.equal(describeEncoded(keys), null)
  assert.deepEqual(describeEncoded({ ...keys, conversation: 'a' }), { type: 'text', text: 'a' })
  assert.equal(describeEncoded({ messageContextInfo: {} }), null)
})

// The fields of Baileys' definition of a message. `raw` shows those that no entry of ours describes.
const EVERY_FIELD = Object.keys(proto.Message.prototype).filter(name => typeof proto.Message.prototype[name] !== 'function')
const NO_MESSAGE = ['senderKeyDistributionMessage', 'fastRatchetKeySenderKeyDistributionMessage', 'messageContextInfo', 'protocolMessage']

test('every field of WhatsApp’s message is shown in some way', () => {
  assert.ok(EVERY_FIELD.length > 80, `${EVERY_FIELD.length}`)
  for (const field of EVERY_FIELD.filter(name => !NO_MESSAGE.includes(name))) {
    const message = describeEncoded({ [field]: field === 'conversation' ? 'a' : {} })
    assert.ok(message?.type, field)
    if (message.type === 'unknown') assert.ok(message.content.raw, field)
  }
})

const RAW_ONLY = new Set([
  'chat', 'messageHistoryBundle', 'messageHistoryNotice', 'placeholderMessage', 'richResponseMessage', 'statusNotificationMessage',
  'statusQuotedMessage', 'statusStickerInteractionMessage', 'stickerSyncRmrMessage'
])

test('an unknown message has its raw fields, without bytes', () => {
  const message = describeEncoded({ placeholderMessage: { type: 0 }, messageContextInfo: { messageSecret: Buffer.alloc(32, 7) } })
  assert.deepEqual(message.content, { raw: { placeholderMessage: { type: 0 } } })
  const bundle = describeEncoded({ messageHistoryBundle: { mimetype: 'a/b', mediaKey: Buffer.alloc(32, 7), fileSha256: Buffer.alloc(32, 8) } })
  assert.deepEqual(bundle.content.raw, { messageHistoryBundle: { mimetype: 'a/b' } })
  for (const field of EVERY_FIELD) {
    const isRaw = describeEncoded({ [field]: field === 'conversation' ? 'a' : {} })?.type === 'unknown'
    const isWrapper = /FutureProof/.test(field) || describeEncoded({ [field]: field === 'conversation' ? 'a' : { message: { conversation: 'x' } } })?.text === 'x'
    assert.equal(isRaw && !isWrapper, RAW_ONLY.has(field), field)
  }
})

test('a wrapper around unknown fields is reported; one around keys alone is not', () => {
  for (const wrapped of [{ viewOnceMessage: { message: {} } }, { ephemeralMessage: { message: { documentWithCaptionMessage: { message: {} } } } }]) {
    assert.deepEqual(describeEncoded(wrapped), { type: 'unknown', content: { raw: wrapped } })
  }
  assert.equal(describeEncoded({ ephemeralMessage: { message: { senderKeyDistributionMessage: { groupId: '1@g.us' } } } }), null)
})

test('raw is bounded: depth, members, texts', () => {
  const long = describeEncoded({ stickerSyncRmrMessage: { filehash: Array.from({ length: 500 }, () => 'x'.repeat(5000)), rmrSource: 'r' } }).content.raw
  assert.equal(long.truncated, true)
  assert.ok(JSON.stringify(long).length < 20_000)
  let quoted = { conversation: 'deep' }
  for (let n = 0; n < 30; n++) quoted = { placeholderMessage: { type: 0 }, chat: { displayName: 'd' }, ephemeralMessage: { message: quoted } }
  assert.ok(JSON.stringify(describeEncoded(quoted)).length < 20_000)
})

test('a message with an unknown field is reported', () => {
  const tag = (number, bytes) => [...[((number << 3) | 2) & 127 | 128, (number << 3) >>> 7], bytes.length, ...bytes]
  assert.deepEqual(describeUnknown(Uint8Array.from(tag(501, [1, 2]))), { type: 'unknown', content: { raw: { fieldNumbers: [501] } } })
  assert.equal(describeUnknown(Uint8Array.from(tag(35, [10, 0]))), null)
  assert.equal(describeUnknown(new Uint8Array(0)), null)
  assert.equal(describeUnknown(Uint8Array.from([0xff, 0xff, 0xff])), null)
})

const key = { id: '3EB0AA', remoteJid: '1@s.whatsapp.net' }
const choices = options => ({ choices: { options } })
const KINDS = [
  [{ buttonsMessage: { contentText: 'Choose', footerText: 'f', buttons: [{ buttonId: 'b1', buttonText: { displayText: 'Yes' } }] } }, { type: 'buttons', text: 'Choose\nf', content: choices([{ id: 'b1', title: 'Yes' }]) }],
  [{ buttonsResponseMessage: { selectedButtonId: 'b1', selectedDisplayText: 'Yes' } }, { type: 'text', text: 'Yes', content: { selected: { id: 'b1', title: 'Yes' } } }],
  [
    { listMessage: { title: 'T', description: 'Pick', buttonText: 'Open', sections: [{ title: 's', rows: [{ title: 'Row', rowId: 'r1', description: 'd' }] }] } },
    { type: 'list', text: 'T\nPick', content: { choices: { button: 'Open', options: [{ id: 'r1', title: 'Row', description: 'd', section: 's' }] } } }
  ],
  [{ listResponseMessage: { title: 'Row', singleSelectReply: { selectedRowId: 'r1' } } }, { type: 'text', text: 'Row', content: { selected: { id: 'r1', title: 'Row' } } }],
  [
    { templateMessage: { hydratedTemplate: { hydratedTitleText: 'Bank', hydratedContentText: 'Code 1', hydratedButtons: [{ quickReplyButton: { displayText: 'OK', id: 'ok' } }, { urlButton: { displayText: 'Site', url: 'https://x.example' } }] } } },
    { type: 'template', text: 'Bank\nCode 1', content: choices([{ id: 'ok', title: 'OK' }, { title: 'Site', url: 'https://x.example' }]) }
  ],
  [{ highlyStructuredMessage: { hydratedHsm: { hydratedTemplate: { hydratedContentText: 'hsm' } } } }, { type: 'template', text: 'hsm', content: choices([]) }],
  [{ templateButtonReplyMessage: { selectedId: 'ok', selectedDisplayText: 'OK' } }, { type: 'text', text: 'OK', content: { selected: { id: 'ok', title: 'OK' } } }],
  [
    { interactiveMessage: { header: { title: 'H' }, body: { text: 'B' }, nativeFlowMessage: { buttons: [{ name: 'quick_reply', buttonParamsJson: '{"id":"q","display_text":"Q"}' }, { name: 'single_select', buttonParamsJson: '{"sections":[{"title":"s","rows":[{"id":"r","title":"R"}]}]}' }, { name: 'broken', buttonParamsJson: '{' }] } } },
    { type: 'interactive', text: 'H\nB', content: choices([{ id: 'q', title: 'Q' }, { id: 'r', title: 'R', section: 's' }, { id: 'broken' }]) }
  ],
  [
    { interactiveResponseMessage: { body: { text: 'Row' }, nativeFlowResponseMessage: { name: 'menu_options', paramsJson: '{"id":"r1"}' } } },
    { type: 'text', text: 'Row', content: { selected: { id: 'r1', title: 'Row', flow: 'menu_options', params: { id: 'r1' } } } }
  ],
  [
    { pollCreationMessageV3: { name: 'Lunch?', options: [{ optionName: 'A' }, { optionName: 'B' }], selectableOptionsCount: 1 } },
    { type: 'poll', text: 'Lunch?', content: { poll: { options: ['A', 'B'], votes: [], selectable: 1 } } }
  ],
  [{ pollCreationMessageV4: { message: { pollCreationMessage: { name: 'Lunch?' } } } }, { type: 'poll', text: 'Lunch?', content: { poll: { options: [], votes: [] } } }],
  [{ pollUpdateMessage: { pollCreationMessageKey: key, vote: { encPayload: Buffer.alloc(3) } } }, { type: 'poll_vote', target: '3EB0AA', content: { encrypted: true } }],
  [
    { pollResultSnapshotMessage: { name: 'Lunch?', pollVotes: [{ optionName: 'A', optionVoteCount: 2 }] } },
    { type: 'poll_result', text: 'Lunch?', content: { poll: { options: ['A'], votes: [{ option: 'A', count: 2 }] } } }
  ],
  [
    { eventMessage: { name: 'Party', description: 'd', startTime: 1800000000, location: { degreesLatitude: 1, degreesLongitude: 2 } } },
    { type: 'event', text: 'Party', content: { event: { name: 'Party', description: 'd', startsAt: '2027-01-15T08:00:00.000Z', location: { latitude: 1, longitude: 2 } } } }
  ],
  [
    { orderMessage: { orderId: '1', itemCount: 2, message: '2 items', orderTitle: 'Shop', token: 't', totalAmount1000: 5000, totalCurrencyCode: 'JOD' } },
    { type: 'order', text: '2 items', content: { order: { id: '1', title: 'Shop', items: 2, token: 't', amount: 5, currency: 'JOD' } } }
  ],
  [
    { productMessage: { product: { productId: 'p', title: 'Shoe', priceAmount1000: 1500, currencyCode: 'JOD' }, businessOwnerJid: '2@s.whatsapp.net' } },
    { type: 'product', text: 'Shoe', content: { product: { id: 'p', title: 'Shoe', seller: '2@s.whatsapp.net', amount: 1.5, currency: 'JOD' } } }
  ],
  [
    { groupInviteMessage: { groupJid: '1@g.us', inviteCode: 'abc', groupName: 'G', caption: 'join' } },
    { type: 'group_invite', text: 'join', content: { invite: { group: '1@g.us', code: 'abc', name: 'G' } } }
  ],
  [{ newsletterAdminInviteMessage: { newsletterJid: '1@newsletter', newsletterName: 'n' } }, { type: 'channel_invite', text: 'n', content: { invite: { channel: '1@newsletter', name: 'n' } } }],
  [{ liveLocationMessage: { degreesLatitude: 31, degreesLongitude: 35, caption: 'live' } }, { type: 'location', text: 'live', content: { location: { latitude: 31, longitude: 35, live: true } } }],
  [{ ptvMessage: { mimetype: 'video/mp4', seconds: 3 } }, { type: 'video', media: { mimetype: 'video/mp4', seconds: 3 }, content: { videoNote: true } }],
  [{ viewOnceMessageV2: { message: { imageMessage: { caption: 'c' } } } }, { type: 'image', text: 'c', media: {}, content: { viewOnce: true } }],
  [{ imageMessage: { viewOnce: true } }, { type: 'image', media: {}, content: { viewOnce: true } }],
  [{ viewOnceMessageV2Extension: { message: { audioMessage: { ptt: true } } } }, { type: 'audio', media: { voice: true }, content: { viewOnce: true } }],
  [{ lottieStickerMessage: { message: { stickerMessage: { mimetype: 'application/was' } } } }, { type: 'sticker', media: { mimetype: 'application/was' } }],
  [{ commentMessage: { message: { conversation: 'a comment' }, targetMessageKey: key } }, { type: 'text', target: '3EB0AA', text: 'a comment' }],
  [{ botInvokeMessage: { message: { conversation: 'to bot' } } }, { type: 'text', text: 'to bot' }],
  [{ protocolMessage: { key, type: 14, editedMessage: { imageMessage: { caption: 'new' } } } }, { type: 'edit', target: '3EB0AA', text: 'new' }],
  [{ pinInChatMessage: { key, type: 1 } }, { type: 'pin', target: '3EB0AA', content: { pin: { pinned: true } } }],
  [{ keepInChatMessage: { key, keepType: 2 } }, { type: 'keep', target: '3EB0AA', content: { keep: { kept: false } } }],
  [{ albumMessage: { expectedImageCount: 2 } }, { type: 'album', content: { album: { images: 2, videos: 0 } } }],
  [{ stickerPackMessage: { name: 'pack', publisher: 'me' } }, { type: 'sticker_pack', content: { stickerPack: { name: 'pack', publisher: 'me' } } }],
  [{ requestPhoneNumberMessage: {} }, { type: 'phone_number_request' }],
  [{ callLogMesssage: { isVideo: false, callOutcome: 1, durationSecs: 5 } }, { type: 'call', content: { call: { video: false, outcome: 1, seconds: 5 } } }],
  [{ scheduledCallCreationMessage: { scheduledTimestampMs: 1800000000000, callType: 1, title: 'Call' } }, { type: 'call', text: 'Call', content: { call: { video: false, startsAt: '2027-01-15T08:00:00.000Z' } } }],
  [{ encReactionMessage: { targetMessageKey: key } }, { type: 'reaction', target: '3EB0AA', content: { encrypted: true } }],
  [{ requestPaymentMessage: { noteMessage: { conversation: 'rent' }, amount1000: 5000, currencyCodeIso4217: 'JOD' } }, { type: 'payment', text: 'rent', content: { payment: { requested: true, amount: 5, currency: 'JOD' } } }],
  [
    { extendedTextMessage: { text: 'Hi', contextInfo: { isForwarded: true, externalAdReply: { title: 'Ad', sourceUrl: 'https://fb.me/x', sourceId: '1', ctwaClid: 'abc' } } } },
    { type: 'text', text: 'Hi', content: { forwarded: true, ad: { title: 'Ad', url: 'https://fb.me/x', id: '1', clickId: 'abc' } } }
  ]
]

test('the secret of a message is separate from its content, in whichever wrapper it is', () => {
  const messageContextInfo = { messageSecret: Buffer.alloc(32, 7) }
  const kept = { type: 'text', text: 'a', messageSecret: messageContextInfo.messageSecret.toString('base64') }
  assert.deepEqual(describeEncoded({ conversation: 'a', messageContextInfo }), kept)
  assert.deepEqual(describeEncoded({ deviceSentMessage: { message: { conversation: 'a' } }, messageContextInfo }), kept)
  assert.deepEqual(describeEncoded({ ephemeralMessage: { message: { conversation: 'a', messageContextInfo } } }), kept)
})

test('an encrypted answer has what opens it', () => {
  const vote = { encPayload: Buffer.from('payload'), encIv: Buffer.from('iv') }
  const { sealed } = describeEncoded({ pollUpdateMessage: { pollCreationMessageKey: { ...key, participant: '2002@lid' }, vote } })
  assert.deepEqual({ ...sealed, payload: `${sealed.payload}`, iv: `${sealed.iv}` }, { use: 'Poll Vote', payload: 'payload', iv: 'iv', creator: '2002@lid' })
  assert.equal(describeEncoded({ pollUpdateMessage: { pollCreationMessageKey: key } }).sealed, undefined)
})

for (const [message, expected] of KINDS) {
  test(`${Object.keys(message)[0]} is ${expected.type}${expected.text ? `: ${expected.text.replaceAll('\n', ' ')}` : ''}`, () => {
    const { mediaKeys, sealed, ...rest } = describeEncoded(message)
    assert.deepEqual(rest, expected)
  })
}

test('of very long lists only as much is described as is reported', () => {
  const params = JSON.stringify({ sections: [{ title: 't', rows: [{ id: '1' }] }] })
  const card = { body: { text: 'x' }, nativeFlowMessage: { buttons: [{ name: 'q', buttonParamsJson: params }] } }
  const { content, text } = describeEncoded({ interactiveMessage: { carouselMessage: { cards: Array(20_000).fill(card) } } })
  assert.equal(content.choices.options.length, 1024)
  assert.equal(text.length, 2 * 1024 - 1)
  const { content: named } = describeEncoded({ contactsArrayMessage: { contacts: Array(20_000).fill({ displayName: 'A' }) } })
  assert.equal(named.contacts.length, 1024)
})
