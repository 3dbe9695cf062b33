import assert from 'node:assert/strict'
import { test } from 'node:test'

import { DevicesCache, NoAnswer, NotOnWhatsApp, Recipients } from './recipients.mjs'

const OWN = '962700000001'
const JID = '962799999999@s.whatsapp.net'

function fixture({ onWhatsApp = async () => [{ jid: JID, exists: true }], listed = true, known = false } = {}) {
  const asked = []
  const devices = new DevicesCache()
  const sock = {
    user: { id: `${OWN}:1@s.whatsapp.net` },
    onWhatsApp: async jid => {
      asked.push('number')
      return onWhatsApp(jid)
    },
    getUSyncDevices: async jids => {
      asked.push('devices')
      const users = jids.map(jid => jid.split('@')[0]).filter(user => listed || user === OWN)
      for (const user of users) devices.set(user, [{ user, device: 0 }])
      return users.map(user => ({ user, device: 0, jid: `${user}@s.whatsapp.net` }))
    },
    assertSessions: async jids => asked.push(`sessions of ${jids.length}`)
  }
  const store = { get: async (_, [user]) => (known ? { [user]: ['0'] } : {}) }
  return { recipients: new Recipients({ sock, store, devices }), devices, asked }
}

test('a new contact is asked about once, and once for many messages at a time', async () => {
  const { recipients, asked } = fixture()
  await Promise.all(Array.from({ length: 5 }, () => recipients.prepare(JID)))
  assert.equal(await recipients.prepare(JID), JID)
  assert.deepEqual(asked, ['number', 'devices', 'sessions of 2'])
})

test('a contact of earlier links is not asked for again', async () => {
  const { recipients, asked } = fixture({ known: true })
  await recipients.prepare(JID)
  assert.deepEqual(asked, ['devices', 'sessions of 2'])
})

test('when the device list is forgotten it is asked for again, the number is not', async () => {
  const { recipients, devices, asked } = fixture()
  await recipients.prepare(JID)
  devices.flushAll()
  await recipients.prepare(JID)
  assert.deepEqual(asked, ['number', 'devices', 'sessions of 2', 'devices', 'sessions of 2'])
})

test('WhatsApp’s own spelling of a number is used', async () => {
  const { recipients } = fixture({ onWhatsApp: async () => [{ jid: '551199998888@s.whatsapp.net', exists: true }] })
  assert.equal(await recipients.prepare('5511999998888@s.whatsapp.net'), '551199998888@s.whatsapp.net')
})

test('"no such number" and "no answer" are told apart', async () => {
  const absent = fixture({ onWhatsApp: async () => [] })
  await assert.rejects(absent.recipients.prepare(JID), NotOnWhatsApp)
  const silent = fixture({ onWhatsApp: async () => undefined })
  await assert.rejects(silent.recipients.prepare(JID), NoAnswer)
})

test('a known contact without devices has left WhatsApp, or was not answered about', async () => {
  const left = fixture({ known: true, listed: false, onWhatsApp: async () => [] })
  await assert.rejects(left.recipients.prepare(JID), NotOnWhatsApp)
  const silent = fixture({ known: true, listed: false, onWhatsApp: async () => undefined })
  await assert.rejects(silent.recipients.prepare(JID), NoAnswer)
})

test('after a failure the next message asks anew', async () => {
  let answers = 0
  const { recipients } = fixture({ onWhatsApp: async () => (answers++ ? [{ jid: JID, exists: true }] : undefined) })
  await assert.rejects(recipients.prepare(JID), NoAnswer)
  assert.equal(await recipients.prepare(JID), JID)
})

test('groups and LIDs are Baileys’ business', async () => {
  const { recipients, asked } = fixture()
  assert.equal(await recipients.prepare('1203@g.us'), '1203@g.us')
  assert.equal(await recipients.prepare('2002@lid'), '2002@lid')
  assert.deepEqual(asked, [])
})

test('the device cache forgets the oldest, and speaks as Baileys wants', () => {
  const cache = new DevicesCache()
  cache.mset(Array.from({ length: 2001 }, (_, n) => ({ key: String(n), value: [n] })))
  assert.equal(cache.get('0'), undefined)
  assert.deepEqual(cache.mget(['0', '1', '2000']), { 1: [1], 2000: [2000] })
  cache.del('1')
  assert.equal(cache.has('1'), false)
})
