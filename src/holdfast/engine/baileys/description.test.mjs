import assert from 'node:assert/strict'
import { test } from 'node:test'

import { proto } from 'baileys'

import { describe } from './description.mjs'

const said = message => describe(proto.Message.decode(proto.Message.encode(proto.Message.fromObject(message)).finish()))
const { Type } = proto.Message.ProtocolMessage

test('each kind of message has its type and its text', () => {
  assert.deepEqual(said({ conversation: 'a' }), { type: 'text', text: 'a' })
  assert.deepEqual(said({ extendedTextMessage: { text: 'a' } }), { type: 'text', text: 'a' })
  assert.deepEqual(said({ pollCreationMessageV3: { name: 'when?' } }), { type: 'poll', text: 'when?' })
  assert.deepEqual(said({ orderMessage: {} }), { type: 'unknown' })
})

test('media tell what they are, and keep the keys to them as one opaque text', () => {
  const sealed = { mediaKey: Buffer.alloc(32, 1), fileSha256: Buffer.alloc(32, 2), fileEncSha256: Buffer.alloc(32, 3), directPath: '/v/1' }
  const image = said({ imageMessage: { ...sealed, mimetype: 'image/png', fileLength: 512, caption: 'b' } })
  assert.deepEqual([image.type, image.text, image.media], ['image', 'b', { mimetype: 'image/png', sizeBytes: 512 }])
  const keys = JSON.parse(image.mediaKeys)
  assert.deepEqual([keys.type, keys.directPath, Buffer.from(keys.mediaKey, 'base64')], ['image', '/v/1', sealed.mediaKey])
  const voice = said({ audioMessage: { ...sealed, mimetype: 'audio/ogg', seconds: 4, ptt: true } })
  assert.deepEqual(voice.media, { mimetype: 'audio/ogg', seconds: 4, voice: true })
  const document = said({ documentMessage: { ...sealed, mimetype: 'application/pdf', fileName: 'c.pdf', caption: 'read' } })
  assert.deepEqual([document.text, document.media.filename], ['read', 'c.pdf'])
  assert.equal(JSON.parse(said({ ptvMessage: sealed }).mediaKeys).type, 'video')
})

test('the server that an address of media names is left out: whom we ask is not the sender’s to say', () => {
  const named = { mediaKey: Buffer.alloc(32), url: 'http://127.0.0.1/v/1?a=b' }
  assert.equal(JSON.parse(said({ stickerMessage: named }).mediaKeys).directPath, '/v/1?a=b')
  assert.equal(said({ stickerMessage: { mediaKey: Buffer.alloc(32), url: 'nonsense' } }).mediaKeys, undefined)
  assert.equal(said({ stickerMessage: { directPath: '/v/1' } }).mediaKeys, undefined)
})

test('a place, one contact, several contacts', () => {
  const { type, content } = said({ locationMessage: { degreesLatitude: 31.5, degreesLongitude: 0, name: 'Amman' } })
  assert.deepEqual([type, content], ['location', { location: { latitude: 31.5, longitude: 0, name: 'Amman' } }])
  const layla = { displayName: 'Layla', vcard: 'BEGIN:VCARD' }
  assert.deepEqual(said({ contactMessage: layla }), { type: 'contact', content: { contact: { name: 'Layla', vcard: 'BEGIN:VCARD' } } })
  assert.equal(said({ contactsArrayMessage: { contacts: [layla, layla] } }).content.contacts.length, 2)
})

test('a reaction says to what, and may be taken back', () => {
  const key = { id: '3A00' }
  assert.deepEqual(said({ reactionMessage: { key, text: '👍' } }), { type: 'reaction', target: '3A00', content: { reaction: { emoji: '👍' } } })
  assert.deepEqual(said({ reactionMessage: { key, text: '' } }).content, { reaction: { emoji: '' } })
})

test('an edit tells the new text and of what, a revocation what is taken back', () => {
  const key = { id: '3A00' }
  const edited = { protocolMessage: { type: Type.MESSAGE_EDIT, key, editedMessage: { conversation: 'better' } } }
  assert.deepEqual(said(edited), { type: 'edit', target: '3A00', text: 'better' })
  assert.deepEqual(said({ editedMessage: { message: edited } }), { type: 'edit', target: '3A00', text: 'better' })
  assert.deepEqual(said({ protocolMessage: { type: Type.REVOKE, key } }), { type: 'revoke', target: '3A00' })
  assert.equal(said({ protocolMessage: { type: Type.APP_STATE_SYNC_KEY_SHARE } }), null)
})

test('a reply names what it answers; mentions are told', () => {
  const contextInfo = { stanzaId: '3A00', participant: '2002@lid', quotedMessage: { conversation: 'q' }, mentionedJid: ['3003@lid'] }
  assert.deepEqual(said({ extendedTextMessage: { text: 'a', contextInfo } }), {
    type: 'text',
    text: 'a',
    content: { mentions: ['3003@lid'], replyTo: { whatsappId: '3A00', sender: '2002@lid' } }
  })
})

test('wrappers are looked through', () => {
  assert.deepEqual(said({ ephemeralMessage: { message: { conversation: 'a' } } }), { type: 'text', text: 'a' })
  assert.equal(said({ viewOnceMessageV2: { message: { imageMessage: {} } } }).type, 'image')
  assert.equal(said({ documentWithCaptionMessage: { message: { documentMessage: { caption: 'b' } } } }).text, 'b')
})

test('keys for a group are no message by themselves, and don’t hide one that comes with them', () => {
  const keys = { senderKeyDistributionMessage: { groupId: '1203@g.us' } }
  assert.equal(said(keys), null)
  assert.deepEqual(said({ ...keys, conversation: 'a' }), { type: 'text', text: 'a' })
  assert.equal(said({ messageContextInfo: {} }), null)
})
