import assert from 'node:assert/strict'
import { test } from 'node:test'

import { generateWAMessage, proto } from 'baileys'

import { BadContent, isMadeOnce, kindOf, makeMessage, stanzaOptionsOf } from './content.mjs'
import { silentLogger } from './quiet.mjs'

const CHAT = '962799999999@s.whatsapp.net'
const GROUP = '1203@g.us'
const NOW = 1_700_000_000_000
const made = (content, chat = CHAT) => makeMessage(content, { chat, secret: Buffer.alloc(32, 7), nowMs: NOW })

// What Baileys' own sendMessage would send, except for random values and times.
async function byBaileys(content, options = {}) {
  const { message } = await generateWAMessage(CHAT, content, { logger: silentLogger, userJid: '962700000001@s.whatsapp.net', ...options })
  if (message.messageContextInfo) message.messageContextInfo.messageSecret = Buffer.alloc(32, 7)
  if (message.protocolMessage?.timestampMs) message.protocolMessage.timestampMs = NOW
  if (message.reactionMessage) message.reactionMessage.senderTimestampMs = NOW
  return plain(proto.Message.fromObject(message))
}

const plain = message => proto.Message.toObject(proto.Message.decode(proto.Message.encode(message).finish()), { longs: Number })

const key = { remoteJid: CHAT, id: '3A00', fromMe: true }

const ALIKE = {
  text: [{ text: 'see https://example.org' }, { text: 'see https://example.org', linkPreview: null }],
  'a mention': [{ text: 'hello @962799999999', mentions: [CHAT] }, { text: 'hello @962799999999', mentions: [CHAT] }],
  location: [
    { location: { latitude: 31.9, longitude: 35.9, name: 'Amman', address: 'Rainbow Street' } },
    { location: { degreesLatitude: 31.9, degreesLongitude: 35.9, name: 'Amman', address: 'Rainbow Street' } }
  ],
  contact: [
    { contact: { name: 'Layla', vcard: 'BEGIN:VCARD' } },
    { contacts: { displayName: 'Layla', contacts: [{ displayName: 'Layla', vcard: 'BEGIN:VCARD' }] } }
  ],
  poll: [
    { poll: { text: 'Lunch?', options: ['Mansaf', 'Falafel'] } },
    { poll: { name: 'Lunch?', values: ['Mansaf', 'Falafel'] } }
  ],
  'a poll with one choice': [
    { poll: { text: 'Lunch?', options: ['Mansaf', 'Falafel'], selectable: 1 } },
    { poll: { name: 'Lunch?', values: ['Mansaf', 'Falafel'], selectableCount: 1 } }
  ],
  reaction: [{ reaction: { emoji: '👍', whatsappId: '3A00', fromMe: true } }, { react: { text: '👍', key } }],
  edit: [{ edit: { whatsappId: '3A00', text: 'better' } }, { text: 'better', edit: key, linkPreview: null }],
  delete: [{ delete: { whatsappId: '3A00' } }, { delete: key }]
}

for (const [name, [content, baileys]] of Object.entries(ALIKE)) {
  test(`${name}: what Baileys would send`, async () => {
    assert.deepEqual(plain(made(content)), await byBaileys(baileys))
  })
}

test('a reply: what Baileys would send', async () => {
  const content = { text: 'yes', replyTo: { whatsappId: '3A00', fromMe: false, sender: CHAT, text: 'really?' } }
  const quoted = { key: { remoteJid: CHAT, id: '3A00', fromMe: false }, message: { conversation: 'really?' } }
  assert.deepEqual(plain(made(content)), await byBaileys({ text: 'yes', linkPreview: null }, { quoted }))
})

test('in a chat with a timer: what Baileys would send, and nothing in messages that change another one', async () => {
  const [text, options] = [{ text: 'gone in a day' }, { ephemeralExpiration: 86_400 }]
  const expected = await byBaileys({ ...text, linkPreview: null }, options)
  assert.deepEqual(plain(made({ ...text, disappearingS: 86_400 })), expected)
  assert.equal(expected.extendedTextMessage.contextInfo.expiration, 86_400)
  for (const content of [{ reaction: { emoji: '👍', whatsappId: '3A00' } }, { edit: { whatsappId: '3A00', text: 'b' } }]) {
    assert.deepEqual(plain(made({ ...content, disappearingS: 86_400 })), plain(made(content)))
  }
})

test('a media message has the fields of the upload and of the request', () => {
  const uploaded = { url: 'https://mmg/v/1', directPath: '/v/1', mediaKey: Buffer.alloc(32), fileLength: 12, seconds: 3 }
  const make = content => plain(makeMessage(content, { chat: CHAT, secret: Buffer.alloc(32), nowMs: NOW, uploaded }))
  const file = '/media/1'
  const voice = make({ audio: { file, mimetype: 'audio/ogg; codecs=opus', voice: true } }).audioMessage
  assert.deepEqual([voice.ptt, voice.mimetype, voice.seconds, voice.directPath], [true, 'audio/ogg; codecs=opus', 3, '/v/1'])
  assert.equal(make({ image: { file, mimetype: 'image/png', caption: 'a' } }).imageMessage.caption, 'a')
  assert.equal(make({ video: { file, mimetype: 'video/mp4', gif: true } }).videoMessage.gifPlayback, true)
  assert.equal(make({ document: { file, mimetype: 'application/pdf', filename: 'a.pdf' } }).documentMessage.fileName, 'a.pdf')
  assert.equal(make({ sticker: { file, mimetype: 'image/webp' } }).stickerMessage.mimetype, 'image/webp')
})

test('in a group a reaction names the sender of its message, unless that is us', () => {
  const reaction = { emoji: '👍', whatsappId: '3A00', sender: '2002@lid' }
  assert.equal(made({ reaction: { ...reaction, fromMe: false } }, GROUP).reactionMessage.key.participant, '2002@lid')
  assert.ok(!made({ reaction: { ...reaction, fromMe: true } }, GROUP).reactionMessage.key.participant)
  assert.ok(!made({ reaction: { ...reaction, fromMe: false } }).reactionMessage.key.participant)
})

test('edits, deletions and polls are marked in the stanza', () => {
  assert.deepEqual(stanzaOptionsOf({ edit: { whatsappId: '3A00', text: 'b' } }), { additionalAttributes: { edit: '1' } })
  assert.deepEqual(stanzaOptionsOf({ delete: { whatsappId: '3A00' } }), { additionalAttributes: { edit: '7' } })
  const creation = [{ tag: 'meta', attrs: { polltype: 'creation' } }]
  assert.deepEqual(stanzaOptionsOf({ poll: { text: 'a', options: ['b', 'c'] } }), { additionalNodes: creation })
  assert.deepEqual(stanzaOptionsOf({ text: 'a' }), {})
})

test('a medium that was made before needs no file for its stanza', () => {
  assert.deepEqual(stanzaOptionsOf({ image: { mimetype: 'image/png' } }), {})
})

test('messages with times or random keys are built once', () => {
  const once = ['image', 'video', 'audio', 'document', 'sticker', 'reaction', 'edit']
  assert.deepEqual(once.filter(isMadeOnce), once)
  assert.ok(!['text', 'location', 'contact', 'poll', 'delete'].some(isMadeOnce))
})

test('options are not kinds', () => {
  assert.equal(kindOf({ text: 'a', mentions: [CHAT], replyTo: { whatsappId: '3A00' }, typing: true }), 'text')
})

test('content that can’t become a message is refused, and the error names the field', () => {
  const refused = (content, sentence) => assert.throws(() => kindOf(content), new BadContent(sentence))
  refused({ telepathy: 'x' }, 'no such kind of content: telepathy')
  refused({}, 'no such kind of content: empty')
  refused({ text: 'a', image: {} }, 'no such kind of content: text, image')
  refused({ constructor: 'a' }, 'no such kind of content: constructor')
  refused({ text: 5 }, 'text is not a string')
  refused({ location: { latitude: 31 } }, 'location.longitude is missing')
  refused({ poll: { text: 'Lunch?', options: 'Mansaf' } }, 'poll.options is not a list')
  refused({ image: { mimetype: 'image/png' } }, 'image.file is missing')
  refused({ edit: null }, 'edit.whatsappId is missing')
})
