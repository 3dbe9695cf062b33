import assert from 'node:assert/strict'
import { test } from 'node:test'

import { encodeWAMessage, proto } from 'baileys'

import { currentMappings, digest, Inbound, phoneJidOf, seconds } from './inbound.mjs'

const ME = { id: '962700000001:3@s.whatsapp.net', lid: '1001:3@lid' }
const LIDS = { '2002@lid': '962799999999@s.whatsapp.net' }
const phonesOf = async lids => lids.map(lid => ({ lid, pn: LIDS[lid.replace(/:\d+/, '')] })).filter(({ pn }) => pn)

async function arrive(attrs, message) {
  const inbound = new Inbound({ me: () => ME, phonesOf })
  const ciphertext = Buffer.from('sealed')
  inbound.note({
    tag: 'message',
    attrs: { id: '3A01', t: '1700000000', ...attrs },
    content: [{ tag: 'enc', attrs: { type: 'msg' }, content: ciphertext }]
  })
  return inbound.decrypted(ciphertext, encodeWAMessage(proto.Message.fromObject(message)))
}

test('a text: who, where, when, what', async () => {
  const record = await arrive(
    { from: '2002:5@lid', sender_pn: '962799999999@s.whatsapp.net', notify: 'Layla', offline: '1' },
    { conversation: 'hello' }
  )
  assert.equal(record.ciphertextSha256, digest(Buffer.from('sealed')))
  assert.deepEqual(record.message, {
    whatsappId: '3A01',
    chat: '962799999999@s.whatsapp.net',
    sender: '962799999999@s.whatsapp.net',
    senderLid: '2002@lid',
    fromMe: false,
    type: 'text',
    text: 'hello',
    sentAtS: 1700000000,
    pushName: 'Layla',
    offline: true
  })
})

test('a sender identified only by LID gets a phone number if the mapping is known', async () => {
  const { message } = await arrive({ from: '2002:5@lid' }, { conversation: 'x' })
  assert.equal(message.chat, '962799999999@s.whatsapp.net')
  const { message: stranger } = await arrive({ from: '3003:5@lid' }, { conversation: 'x' })
  assert.equal(stranger.chat, '3003@lid')
})

test('in a group, the chat is the group and the sender a person', async () => {
  const { message } = await arrive(
    { from: '1203@g.us', participant: '2002:5@lid', participant_pn: '962799999999@s.whatsapp.net' },
    { conversation: 'x' }
  )
  assert.deepEqual([message.chat, message.sender], ['1203@g.us', '962799999999@s.whatsapp.net'])
})

test('a message that the owner wrote on the phone is from us, in the recipient’s chat', async () => {
  const { message } = await arrive(
    { from: '962700000001@s.whatsapp.net', recipient: '2002@lid', peer_recipient_pn: '962799999999@s.whatsapp.net' },
    { deviceSentMessage: { destinationJid: '2002@lid', message: { conversation: 'x' } } }
  )
  assert.deepEqual(
    [message.chat, message.sender, message.fromMe, message.text],
    ['962799999999@s.whatsapp.net', '962700000001@s.whatsapp.net', true, 'x']
  )
})

test('a message to a broadcast list belongs to its sender’s chat, and says where it came from', async () => {
  const { message } = await arrive({ from: '17@broadcast', participant: '962799999999:2@s.whatsapp.net' }, { conversation: 'x' })
  assert.deepEqual([message.chat, message.content], ['962799999999@s.whatsapp.net', { broadcast: true }])
})

test('a status has a chat of its own, and a person as its sender', async () => {
  const status = async (attrs, message = { conversation: 'x' }) => (await arrive({ from: 'status@broadcast', ...attrs }, message)).message
  const byLid = await status({ participant: '2002:5@lid' }, { imageMessage: { caption: 'new roses' } })
  assert.deepEqual(
    [byLid.chat, byLid.sender, byLid.fromMe, byLid.type, byLid.text],
    ['status@broadcast', '962799999999@s.whatsapp.net', false, 'image', 'new roses']
  )
  const unknown = await status({ participant: '3003:5@lid', participant_pn: '962711111111@s.whatsapp.net' })
  assert.equal(unknown.sender, '962711111111@s.whatsapp.net')
  for (const participant of ['962700000001:7@s.whatsapp.net', '1001:7@lid']) {
    const own = await status({ participant })
    assert.deepEqual([own.chat, own.sender, own.fromMe], ['status@broadcast', '962700000001@s.whatsapp.net', true])
  }
})

const plain = (attrs, content) => ({
  tag: 'message',
  attrs: { id: '3A01', t: '1700000000', ...attrs },
  content: [{ tag: 'plaintext', attrs: {}, content }]
})
const post = text => proto.Message.encode({ conversation: text }).finish()

test('a post in a channel comes unencrypted; the channel is its chat and its sender', async () => {
  const inbound = new Inbound({ me: () => ME, phonesOf })
  const record = await inbound.unencrypted(plain({ from: '120363@newsletter', server_id: '117' }, post('new roses')))
  const { chat, sender, text, content } = record.message
  assert.deepEqual([chat, sender, text, content], ['120363@newsletter', '120363@newsletter', 'new roses', { serverId: '117' }])
  const again = await inbound.unencrypted(plain({ from: '120363@newsletter', id: '3A02' }, post('new roses')))
  assert.notEqual(again.ciphertextSha256, record.ciphertextSha256)
})

test('an unencrypted message from anybody else is kept and marked; damaged bytes are no message', async () => {
  const inbound = new Inbound({ me: () => ME, phonesOf })
  const from = '962799999999@s.whatsapp.net'
  const { message } = await inbound.unencrypted(plain({ from }, post('trust me')))
  assert.deepEqual([message.chat, message.text, message.content], [from, 'trust me', { unencrypted: true }])
  const damaged = plain({ from }, Buffer.from([0xff]))
  assert.equal(await inbound.unencrypted(damaged), null)
  assert.equal(inbound.isDamaged(damaged), true)
  assert.equal(inbound.isDamaged(plain({ from }, post('x'))), false)
  assert.equal((await inbound.unreadable(damaged)).chat, from)
})

test('a message that our phone resends is the message that it names; from anybody else it is ignored', async () => {
  const webMessageInfoBytes = proto.WebMessageInfo.encode({
    key: { id: '3A00', remoteJid: '2002@lid', fromMe: false },
    message: { conversation: 'from an advertisement' },
    messageTimestamp: 1700000000,
    pushName: 'Layla'
  }).finish()
  const answer = {
    protocolMessage: {
      type: proto.Message.ProtocolMessage.Type.PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE,
      peerDataOperationRequestResponseMessage: { peerDataOperationResult: [{ placeholderMessageResendResponse: { webMessageInfoBytes } }] }
    }
  }
  const { message } = await arrive({ from: '962700000001@s.whatsapp.net', category: 'peer' }, answer)
  assert.deepEqual(message, {
    chat: '962799999999@s.whatsapp.net',
    sender: '962799999999@s.whatsapp.net',
    fromMe: false,
    type: 'text',
    text: 'from an advertisement',
    whatsappId: '3A00',
    sentAtS: 1700000000,
    pushName: 'Layla',
    offline: false
  })
  assert.equal((await arrive({ from: '2002:5@lid', category: 'peer' }, answer)).message, undefined)
  assert.equal((await arrive({ from: '2002:5@lid' }, answer)).message, undefined)
})

test('protocol traffic is stored as plaintext but is not a message', async () => {
  const record = await arrive(
    { from: '962700000001@s.whatsapp.net', category: 'peer' },
    { protocolMessage: { type: proto.Message.ProtocolMessage.Type.APP_STATE_SYNC_KEY_SHARE } }
  )
  assert.equal(record.message, undefined)
  assert.ok(record.plaintext.length > 0)
})

test('bytes that are not a message are stored anyway', async () => {
  const inbound = new Inbound({ me: () => ME, phonesOf: async () => null })
  const ciphertext = Buffer.from('sealed')
  inbound.note({ attrs: { from: '2002@lid' }, content: [{ content: ciphertext }] })
  const record = await inbound.decrypted(ciphertext, Buffer.from([0xff, 0xff, 1]))
  assert.deepEqual(record, { ciphertextSha256: digest(ciphertext), plaintext: '//8B' })
})

test('people inside a message are identified by phone number if it is known', async () => {
  const contextInfo = { mentionedJid: ['2002@lid', '3003@lid'], stanzaId: '3A00', participant: '2002@lid', quotedMessage: { conversation: 'a' } }
  const { message } = await arrive({ from: '3003@lid' }, { extendedTextMessage: { text: 'x', contextInfo } })
  assert.deepEqual(message.content, {
    mentions: ['962799999999@s.whatsapp.net', '3003@lid'],
    replyTo: { whatsappId: '3A00', sender: '962799999999@s.whatsapp.net' }
  })
})

test('an undecryptable message is reported from its stanza, unless it is not meant for people', async () => {
  const inbound = new Inbound({ me: () => ME, phonesOf: async () => null })
  const ciphertext = Buffer.from('sealed')
  const attrs = { id: '3A01', t: '1700000000', from: '3003:5@lid', notify: 'Layla' }
  inbound.note({ tag: 'message', attrs, content: [{ tag: 'enc', content: ciphertext }] })
  const told = { chat: '3003@lid', sender: '3003@lid', whatsappId: '3A01', sentAtS: 1700000000, pushName: 'Layla' }
  assert.deepEqual(await inbound.undecryptable(ciphertext), told)
  assert.equal(await inbound.undecryptable(Buffer.from('other')), null)
  assert.equal(await inbound.unreadable({ tag: 'message', attrs: { ...attrs, category: 'peer' } }), null)
  const status = { ...attrs, from: 'status@broadcast', participant: '3003@lid' }
  assert.deepEqual(await inbound.unreadable({ tag: 'message', attrs: status }), { ...told, chat: 'status@broadcast' })
})

test('a LID’s phone number is found if it is known', () => {
  const peek = (type, id) => ({ 'lid-mapping 2002_reverse': '962799999999' })[`${type} ${id}`]
  assert.equal(phoneJidOf('2002:5@lid', peek), '962799999999@s.whatsapp.net')
  assert.equal(phoneJidOf('3003@lid', peek), undefined)
})

test('an invalid time is left out: a report with it would break the pipe', () => {
  assert.equal(seconds('1700000000'), 1700000000)
  for (const nonsense of [undefined, '', 'soon', '1.5', '1e400', '99999999999999999999']) {
    assert.equal(seconds(nonsense), undefined)
  }
})

test('the hidden id of a sender is reported beside the number, in whatever attribute the stanza has it', async () => {
  for (const attrs of [
    { from: '962799999999@s.whatsapp.net', sender_lid: '2002:5@lid' },
    { from: '2002:5@lid', sender_pn: '962799999999@s.whatsapp.net' },
    { from: '1203@g.us', participant: '962799999999:5@s.whatsapp.net', participant_lid: '2002@lid' },
    { from: '1203@g.us', participant: '2002:5@lid' }
  ]) {
    const { message } = await arrive(attrs, { conversation: 'x' })
    assert.deepEqual([message.sender, message.senderLid], ['962799999999@s.whatsapp.net', '2002@lid'])
  }
  const { message } = await arrive({ from: '962799999999@s.whatsapp.net' }, { conversation: 'x' })
  assert.equal(message.senderLid, undefined)
})

test('a message with only unknown fields is reported; keys alone are not', async () => {
  const inbound = new Inbound({ me: () => ME, phonesOf: async () => null })
  const [unknown, keys] = [Buffer.from('sealed'), Buffer.from('sealed too')]
  for (const content of [unknown, keys]) {
    inbound.note({ tag: 'message', attrs: { id: '3A01', t: '1', from: '2002@lid' }, content: [{ tag: 'enc', attrs: {}, content }] })
  }
  const padded = bytes => Buffer.from([...bytes, 1])
  const { message } = await inbound.decrypted(unknown, padded([0xaa, 0x1f, 2, 8, 1])) // field 501
  assert.deepEqual([message.type, message.content], ['unknown', { raw: { fieldNumbers: [501] } }])
  const kept = await inbound.decrypted(keys, padded([0x12, 0]))
  assert.equal(kept.message, undefined)
  assert.equal(inbound.isUnreadable(kept, padded([0x12, 0])), false)
})

test('a plaintext without a message counts as undecryptable', async () => {
  const inbound = new Inbound({ me: () => ME, phonesOf: async () => null })
  for (const plaintext of [[], [0], [0xff, 0xff, 1], [0x0a, 0x7f, 1], [7, 1], [1, 2, 3, 200]]) {
    const content = Buffer.from('sealed')
    inbound.note({ tag: 'message', attrs: { id: '3A01', t: '1', from: '2002@lid' }, content: [{ tag: 'enc', attrs: {}, content }] })
    const record = await inbound.decrypted(content, Buffer.from(plaintext))
    assert.equal(inbound.isUnreadable(record, Buffer.from(plaintext)), true, `${plaintext}`)
  }
})

test('however many are mentioned, they are looked up in one query, and the first 1,024 are kept', async () => {
  const queries = []
  const inbound = new Inbound({
    me: () => ME,
    phonesOf: async lids => {
      queries.push(lids)
      return phonesOf(lids)
    }
  })
  const mentionedJid = Array.from({ length: 45_000 }, (_, n) => `${2002 + n}@lid`)
  const ciphertext = Buffer.from('sealed')
  const attrs = { id: '3A01', from: '962799999999@s.whatsapp.net' }
  inbound.note({ tag: 'message', attrs, content: [{ tag: 'enc', attrs: {}, content: ciphertext }] })
  const text = encodeWAMessage({ extendedTextMessage: { text: 'x', contextInfo: { mentionedJid } } })
  const { message } = await inbound.decrypted(ciphertext, text)
  assert.deepEqual(queries.map(lids => lids.length), [1024])
  assert.equal(message.content.mentions.length, 1024)
  assert.equal(message.content.mentions[0], '962799999999@s.whatsapp.net')
})

test('a text of megabytes is truncated and marked, and its plaintext is not stored', async () => {
  const record = await arrive({ from: '2002@lid' }, { conversation: '\u0001'.repeat(2_600_000) })
  assert.equal(record.message.text.length, 65_536)
  assert.ok(record.message.text.endsWith('… [cut: 2600000 characters, Holdfast stores 65536]'))
  assert.equal(record.plaintext, 'AQ==')
  assert.ok(JSON.stringify(record).length < 500_000)
})

test('a message with too many long parts becomes a stub', async () => {
  const contacts = Array.from({ length: 100 }, () => ({ displayName: 'x', vcard: 'y'.repeat(60_000) }))
  const { message, ciphertextSha256 } = await arrive({ from: '2002@lid' }, { contactsArrayMessage: { contacts } })
  assert.equal(message.type, 'unknown')
  assert.deepEqual(message.content, { notStored: { ciphertextSha256, error: 'the message is too long' } })
  assert.equal(message.chat, '962799999999@s.whatsapp.net')
})

test('a hidden id whose number was given to another one has no number any more', async () => {
  const stored = { 962799999999: '4004' }
  const get = async (_, users) => Object.fromEntries(users.filter(user => stored[user]).map(user => [user, stored[user]]))
  const pn = '962799999999@s.whatsapp.net'
  assert.deepEqual(await currentMappings([{ lid: '2002@lid', pn }], get), [])
  assert.deepEqual(await currentMappings([{ lid: '4004:2@lid', pn }], get), [{ lid: '4004:2@lid', pn }])
  assert.deepEqual(await currentMappings([{ lid: '5005@lid', pn: '1@s.whatsapp.net' }], get), [{ lid: '5005@lid', pn: '1@s.whatsapp.net' }])
  const peek = (_, id) => ({ '2002_reverse': '962799999999', '4004_reverse': '962799999999', ...stored })[id]
  assert.equal(phoneJidOf('2002@lid', peek), undefined)
  assert.equal(phoneJidOf('4004@lid', peek), pn)
})

test('a message tells the timer of its chat, and when it was set at the latest', async () => {
  const from = '962799999999@s.whatsapp.net'
  const timerOf = async (message, attrs = { from }) => (await arrive(attrs, message)).timer
  const text = contextInfo => ({ extendedTextMessage: { text: 'x', contextInfo } })
  const timer = (disappearingS, timerSetAtS) => ({ t: 'chat', chat: from, disappearingS, timerSetAtS })
  const day = { expiration: 86400, ephemeralSettingTimestamp: 1600000000 }
  assert.deepEqual(await timerOf(text(day)), timer(86400, 1600000000))
  assert.deepEqual(await timerOf({ ephemeralMessage: { message: { imageMessage: { contextInfo: day } } } }), timer(86400, 1600000000))
  assert.deepEqual(await timerOf(text({ expiration: 86400 })), timer(86400, 1700000000))
  assert.deepEqual(await timerOf(text({ expiration: 86400, ephemeralSettingTimestamp: 4e9 })), timer(86400, 1700000000))
  assert.deepEqual(await timerOf(text({ ephemeralSettingTimestamp: 1600000000 })), timer(0, 1600000000))
  assert.deepEqual(await timerOf({ protocolMessage: { type: 'EPHEMERAL_SETTING', ephemeralExpiration: 86400 } }), timer(86400, 1700000000))
  assert.deepEqual(await timerOf({ protocolMessage: { type: 'EPHEMERAL_SETTING' } }), timer(0, 1700000000))
  const own = { from: '962700000001@s.whatsapp.net', recipient: from }
  assert.deepEqual(await timerOf({ deviceSentMessage: { destinationJid: from, message: text(day) } }, own), timer(86400, 1600000000))
  for (const silent of [text({ stanzaId: 'A' }), { conversation: 'x' }]) assert.equal(await timerOf(silent), undefined)
  for (const attrs of [{ from: '1203@g.us', participant: from }, { from: 'status@broadcast', participant: from }, { from: '17@broadcast', participant: from }]) {
    assert.equal(await timerOf(text(day), attrs), undefined)
  }
})
