import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Curve, proto } from 'baileys'

import {
  PasskeyCeremony,
  comparisonCode,
  deviceTypeOf,
  encryptedRequest,
  ephemeralIdentity,
  handoffKey,
  handoffProof,
  pairingKey,
  prologuePayload
} from './passkey.mjs'

// Computed with another implementation (Python's cryptography) from the same inputs.
const HANDOFF = 'bf71b722a793d4f9d2c8e46ad45266621b5d4c5273cca92d93068648346c10a5'
const IDENTITY = '0a20010101010101010101010101010101010101010101010101010101010101010110011a053240726566'
const PAYLOAD = `0a2b${IDENTITY}12220a20afd946ab0400db4db7a0406585f1596afba950887fb0c3baef19f418e85259cb`
const PROOF = '4d62aa34ac499ab7cfb4bb32d94030e049006a748f48157ad545b647eae28022'
const KEY = '437f4f19e9f731b4fcd52792f1f7e53f1461450f4b9b30702f32174dbe905cd9'
const REQUEST =
  '0a76eb943890071a6bb1d7f82aeada9563c161a22030e56992c4379ec2d951b7c73ceac847dc1fbcb659d9e9849193a25a945897546db4cd79e99b668e6cdfabcd' +
  '7182095d1966a63c6729df59035ddd98f8a0b9a322a8271e21d89e313bd7e447ee3239a2cd443ad544d162698351a4bf07f310cab11d41120c090909090909090909090909'

const filled = (byte, size = 32) => Buffer.alloc(size, byte)
const hex = bytes => Buffer.from(bytes).toString('hex')

test('handoff key and proof are HKDF and HMAC over the secret of the code that the phone saw', () => {
  const key = handoffKey(Buffer.from(Array.from({ length: 32 }, (_, at) => at)))
  assert.equal(hex(key), HANDOFF)
  assert.equal(hex(handoffProof(key, Buffer.from(PAYLOAD, 'hex'))), PROOF)
})

test('the prologue commits to an ephemeral key, the type of device and WhatsApp’s reference', () => {
  const identity = ephemeralIdentity({ publicKey: filled(1), deviceType: 1, ref: '2@ref' })
  assert.equal(hex(identity), IDENTITY)
  assert.equal(hex(prologuePayload(identity, filled(2))), PAYLOAD)
})

test('the displayed code is the protocol’s', () => {
  assert.equal(comparisonCode({ nonce: filled(2), primaryNonce: filled(3), primaryKey: filled(4) }), 'G7R3-N352')
})

test('the device’s keys are sent encrypted under the agreed key', () => {
  const key = pairingKey({ shared: filled(5), deviceType: 1, ref: '2@ref' })
  assert.equal(hex(key), KEY)
  const parts = { key, iv: filled(9, 12), noiseKey: filled(6), identityKey: filled(7), advSecret: filled(8) }
  assert.equal(hex(encryptedRequest(parts)), REQUEST)
})

test('the type of device is WhatsApp’s number for the browser', () => {
  assert.deepEqual([deviceTypeOf('Chrome'), deviceTypeOf('Edge'), deviceTypeOf('Lynx')], [1, 6, 1])
})

// -- the ceremony against a scripted WhatsApp

const OPTIONS = { challenge: 'AAAA', rpId: 'whatsapp.com' }
const ASSERTION = { id: 'AQ', rawId: 'AQ', type: 'public-key', response: { clientDataJSON: 'e30', authenticatorData: 'AA', signature: 'AA' } }
const node = (tag, content, attrs = {}) => ({ tag, attrs, content })
const request = (options = JSON.stringify(OPTIONS)) => node('notification', [node('passkey_request_options', Buffer.from(options))])
const primary = Curve.generateKeyPair()
const continuation = () =>
  node('notification', [
    node('primary_ephemeral_identity', proto.PrimaryEphemeralIdentity.encode({ publicKey: primary.public, nonce: filled(3) }).finish())
  ])

function fixture({ answers = {}, creds = {} } = {}) {
  const reports = []
  const asked = []
  const listeners = {}
  const clock = { ms: 0 }
  const full = {
    advSecretKey: filled(7).toString('base64'),
    noiseKey: { public: filled(6) },
    signedIdentityKey: { public: filled(8) },
    ...creds
  }
  const ceremony = new PasskeyCeremony({
    query: async ({ content: [body] }) => {
      asked.push(body)
      const answer = answers[body.tag]
      if (answer instanceof Error) throw answer
      return answer === undefined ? node('iq', body.tag === 'ref' ? [node('ref', Buffer.from('2@ref'))] : []) : answer
    },
    creds: full,
    changed: changes => Object.assign(full, changes),
    deviceType: 1,
    report: report => reports.push(report),
    now: () => clock.ms
  })
  ceremony.listen({ on: (name, listen) => (listeners[name] = listen) })
  const settle = () => new Promise(setImmediate)
  const say = async (type, stanza) => {
    listeners[`CB:notification,type:${type}`](stanza)
    await settle()
    await settle()
  }
  return { ceremony, reports, asked, clock, creds: full, say, tags: () => asked.map(({ tag }) => tag) }
}

test('the challenge is reported, and the secret that the phone saw is replaced at once', async () => {
  const { reports, creds, say, ceremony } = fixture()
  assert.equal(ceremony.isUnderWay, false)
  await say('passkey_prologue_request', request())
  assert.deepEqual(reports, [{ r: 'passkey-requested', options: OPTIONS }])
  assert.equal(Buffer.from(creds.advSecretKey, 'base64').length, 32)
  assert.notEqual(creds.advSecretKey, filled(7).toString('base64'))
  assert.equal(ceremony.isUnderWay, true)
})

test('an unreadable challenge is requested again', async () => {
  const again = node('iq', [node('passkey_request_options', Buffer.from(JSON.stringify(OPTIONS)))])
  const { reports, say, tags } = fixture({ answers: { passkey_request_options: again } })
  await say('passkey_prologue_request', request('{'))
  assert.deepEqual(tags(), ['passkey_request_options'])
  assert.deepEqual(reports, [{ r: 'passkey-requested', options: OPTIONS }])
})

test('a second unreadable challenge ends the ceremony', async () => {
  const { reports, say } = fixture()
  await say('passkey_prologue_request', request('[]'))
  assert.deepEqual(reports.map(({ r, code }) => [r, code]), [['passkey-failed', 'passkey-unreadable']])
})

test('with a fresh proof the pairing request follows at once, and nobody compares codes', async () => {
  const { ceremony, reports, asked, say, tags } = fixture()
  await say('passkey_prologue_request', request())
  await ceremony.answer(ASSERTION)
  const parts = Object.fromEntries(asked[1].content.map(({ tag, content }) => [tag, content]))
  assert.deepEqual(JSON.parse(parts.webauthn_assertion), ASSERTION)
  assert.deepEqual(parts.credential_id, Buffer.from([1]))
  assert.deepEqual(parts.pairing_handoff_proof, handoffProof(handoffKey(filled(7)), parts.prologue_payload))
  await say('crsc_continuation', continuation())
  assert.deepEqual(tags(), ['ref', 'passkey_prologue', 'companion_nonce', 'encrypted_pairing_request'])
  assert.deepEqual([reports[1].r, reports[1].confirm], ['passkey-continued', false])
})

test('after five minutes there is no proof, and the request waits until the codes were compared', async () => {
  const { ceremony, reports, asked, clock, say, tags } = fixture()
  await say('passkey_prologue_request', request())
  clock.ms = 5 * 60_000
  await ceremony.answer(ASSERTION)
  assert.equal(asked[1].content.some(({ tag }) => tag === 'pairing_handoff_proof'), false)
  await say('crsc_continuation', continuation())
  assert.equal(reports[1].confirm, true)
  assert.match(reports[1].code, /^[1-9A-HJ-NP-TV-Z]{4}-[1-9A-HJ-NP-TV-Z]{4}$/)
  assert.deepEqual(tags().at(-1), 'companion_nonce')
  await ceremony.confirm()
  assert.deepEqual(tags().at(-1), 'encrypted_pairing_request')
})

test('a refusal, no answer and a missing reference have codes of their own and end the ceremony', async () => {
  const refusal = Object.assign(new Error('bad-request'), { data: 400 })
  for (const [answers, code] of [
    [{ passkey_prologue: refusal }, 'passkey-refused'],
    [{ passkey_prologue: null }, 'passkey-timeout'],
    [{ ref: node('iq', []) }, 'passkey-failed']
  ]) {
    const { ceremony, reports, say } = fixture({ answers })
    await say('passkey_prologue_request', request())
    await ceremony.answer(ASSERTION)
    await say('crsc_continuation', continuation())
    assert.deepEqual(reports.slice(1).map(report => report.code), [code])
    assert.equal(ceremony.isUnderWay, false)
  }
})

test('a continuation with an incomplete key ends the ceremony', async () => {
  const { ceremony, reports, say } = fixture()
  await say('passkey_prologue_request', request())
  await ceremony.answer(ASSERTION)
  await say('crsc_continuation', node('notification', [node('primary_ephemeral_identity', Buffer.from([0x0a, 1, 1]))]))
  assert.equal(reports.at(-1).code, 'passkey-failed')
})

test('a linked device needs no ceremony', async () => {
  const { reports, creds, say } = fixture({ creds: { account: {} } })
  await say('passkey_prologue_request', request())
  assert.deepEqual(reports, [])
  assert.equal(creds.advSecretKey, filled(7).toString('base64'))
})
