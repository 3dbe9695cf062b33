import assert from 'node:assert/strict'
import { test } from 'node:test'

import { encodeWAMessage, proto } from 'baileys'

import { BadContent, describe, toBaileys } from './content.mjs'
import { digest, Inbound, phoneJidOf, seconds } from './inbound.mjs'

const ME = { id: '962700000001:3@s.whatsapp.net', lid: '1001:3@lid' }
const LIDS = { '2002@lid': '962799999999@s.whatsapp.net' }

async function arrive(attrs, message) {
  const inbound = new Inbound({ me: () => ME, phoneOf: async lid => LIDS[lid.replace(/:\d+/, '')] ?? null })
  const ciphertext = Buffer.from('sealed')
  inbound.note({
    tag: 'message',
    attrs: { id: '3A01', t: '1700000000', ...attrs },
    content: [{ tag: 'enc', attrs: { type: 'msg' }, content: ciphertext }]
  })
  return inbound.decrypted(ciphertext, encodeWAMessage(message))
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
    fromMe: false,
    type: 'text',
    text: 'hello',
    sentAtS: 1700000000,
    pushName: 'Layla',
    offline: true
  })
})

test('a sender named by LID only is known by phone number where the mapping is', async () => {
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

test('what the owner wrote on the phone is from us, in the chat where it went', async () => {
  const { message } = await arrive(
    { from: '962700000001@s.whatsapp.net', recipient: '2002@lid', peer_recipient_pn: '962799999999@s.whatsapp.net' },
    { deviceSentMessage: { destinationJid: '2002@lid', message: { conversation: 'x' } } }
  )
  assert.deepEqual(
    [message.chat, message.sender, message.fromMe, message.text],
    ['962799999999@s.whatsapp.net', '962700000001@s.whatsapp.net', true, 'x']
  )
})

test('a message to a broadcast list belongs to its sender’s chat, a status to nobody’s', async () => {
  const from = { participant: '962799999999:2@s.whatsapp.net' }
  const { message } = await arrive({ from: '17@broadcast', ...from }, { conversation: 'x' })
  assert.equal(message.chat, '962799999999@s.whatsapp.net')
  assert.equal((await arrive({ from: 'status@broadcast', ...from }, { conversation: 'x' })).message, undefined)
})

test('protocol traffic is kept as plaintext but is no message', async () => {
  const record = await arrive(
    { from: '962700000001@s.whatsapp.net', category: 'peer' },
    { protocolMessage: { type: proto.Message.ProtocolMessage.Type.APP_STATE_SYNC_KEY_SHARE } }
  )
  assert.equal(record.message, undefined)
  assert.ok(record.plaintext.length > 0)
})

test('bytes that are no message are kept all the same', async () => {
  const inbound = new Inbound({ me: () => ME, phoneOf: async () => null })
  const ciphertext = Buffer.from('sealed')
  inbound.note({ attrs: { from: '2002@lid' }, content: [{ content: ciphertext }] })
  const record = await inbound.decrypted(ciphertext, Buffer.from([0xff, 0xff, 1]))
  assert.deepEqual(record, { ciphertextSha256: digest(ciphertext), plaintext: '//8B' })
})

const said = message => describe(proto.Message.fromObject(message))

test('each kind of message has its type and its text', () => {
  assert.deepEqual(said({ extendedTextMessage: { text: 'a' } }), { type: 'text', text: 'a' })
  assert.deepEqual(said({ imageMessage: { caption: 'b' } }), { type: 'image', text: 'b' })
  assert.deepEqual(said({ imageMessage: {} }), { type: 'image' })
  assert.deepEqual(said({ audioMessage: { ptt: true } }), { type: 'audio' })
  assert.deepEqual(said({ documentMessage: { fileName: 'c.pdf' } }), { type: 'document', text: 'c.pdf' })
  assert.deepEqual(said({ reactionMessage: { text: '👍' } }), { type: 'reaction', text: '👍' })
  assert.deepEqual(said({ locationMessage: { name: 'Amman' } }), { type: 'location', text: 'Amman' })
  assert.deepEqual(said({ contactMessage: { displayName: 'Layla' } }), { type: 'contact', text: 'Layla' })
  assert.deepEqual(said({ orderMessage: {} }), { type: 'unknown' })
})

test('wrappers are looked through', () => {
  assert.deepEqual(said({ ephemeralMessage: { message: { conversation: 'a' } } }), { type: 'text', text: 'a' })
  assert.deepEqual(said({ viewOnceMessageV2: { message: { imageMessage: {} } } }), { type: 'image' })
  assert.deepEqual(
    said({ documentWithCaptionMessage: { message: { documentMessage: { caption: 'b' } } } }),
    { type: 'document', text: 'b' }
  )
})

test('keys for a group are no message by themselves, and don’t hide one that comes with them', () => {
  const keys = { senderKeyDistributionMessage: { groupId: '1203@g.us' } }
  assert.equal(said(keys), null)
  assert.deepEqual(said({ ...keys, conversation: 'a' }), { type: 'text', text: 'a' })
  assert.equal(said({ messageContextInfo: {} }), null)
})

test('an edit tells the new text, a revocation what is taken back', () => {
  const { Type } = proto.Message.ProtocolMessage
  const edited = { protocolMessage: { type: Type.MESSAGE_EDIT, editedMessage: { conversation: 'better' } } }
  assert.deepEqual(said(edited), { type: 'edit', text: 'better' })
  const revoked = { protocolMessage: { type: Type.REVOKE, key: { id: '3A00' } } }
  assert.deepEqual(said(revoked), { type: 'revoke', text: '3A00' })
})

test('a text is sent without fetching what it mentions', () => {
  assert.deepEqual(toBaileys({ text: 'see https://example.org' }), { text: 'see https://example.org', linkPreview: null })
})

test('an unknown kind of content is named', () => {
  assert.throws(() => toBaileys({ telepathy: 'x' }), new BadContent('no such kind of content: telepathy'))
  assert.throws(() => toBaileys({}), BadContent)
})

test('a LID’s phone number is found where it is known', () => {
  const peek = (type, id) => ({ 'lid-mapping 2002_reverse': '962799999999' })[`${type} ${id}`]
  assert.equal(phoneJidOf('2002:5@lid', peek), '962799999999@s.whatsapp.net')
  assert.equal(phoneJidOf('3003@lid', peek), undefined)
})

test('a time that is none is left out: a report with it would break the pipe', () => {
  assert.equal(seconds('1700000000'), 1700000000)
  for (const nonsense of [undefined, '', 'soon', '1.5', '1e400', '99999999999999999999']) {
    assert.equal(seconds(nonsense), undefined)
  }
})
