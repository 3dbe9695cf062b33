import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Groups } from './groups.mjs'
import { QueryLimited, QueryLimits } from './querylimits.mjs'
import { DevicesCache, NoAnswer, NoAudience, NotOnWhatsApp, Recipients } from './recipients.mjs'

const OWN = '962700000001'
const JID = '962799999999@s.whatsapp.net'

const GROUP = '1203@g.us'

function fixture({ onWhatsApp = async () => [{ jid: JID, exists: true }], listed = true, known = false, withKey, sessions = [], refuse = {} } = {}) {
  const asked = []
  const devices = new DevicesCache()
  const sock = {
    user: { id: `${OWN}:1@s.whatsapp.net`, lid: '1001:1@lid' },
    signalRepository: { validateSession: async jid => ({ exists: sessions.includes(jid) }) },
    onWhatsApp: async jid => {
      asked.push('number')
      if (refuse.number) throw refuse.number
      return onWhatsApp(jid)
    },
    getUSyncDevices: async (jids, useCache) => {
      asked.push(useCache ? 'devices' : 'devices again')
      const found = jids.filter(jid => listed || jid.startsWith(OWN) || jid.startsWith('1001'))
      for (const jid of found) devices.set(jid.split('@')[0], [{ device: 0 }])
      return found.map(jid => ({ user: jid.split('@')[0], device: 0, jid }))
    },
    assertSessions: async (jids, force) => {
      asked.push(`${force ? 'new ' : ''}sessions of ${jids.length}`)
      if (refuse.sessions) throw refuse.sessions
    }
  }
  const memory = { [GROUP]: withKey }
  const spellings = {}
  const store = {
    get: async (type, [id]) => (type === 'sender-key-memory' ? { [id]: memory[id] } : known ? { [id]: ['0'] } : {}),
    set: ({ 'sender-key-memory': changes, 'number-spelling': numbers = {} }) => {
      if (changes) Object.assign(memory, { [GROUP]: changes[GROUP] ?? undefined })
      Object.assign(spellings, numbers)
    }
  }
  const ask = async () => {
    asked.push('group')
    return { participants: [{ id: '2002@lid' }, { id: '3003@lid' }] }
  }
  const clock = { nowMs: 0 }
  const limits = new QueryLimits({ now: () => clock.nowMs, chance: () => 0 })
  const recipients = new Recipients({ sock, store, devices, groups: new Groups({ ask }), limits })
  return { recipients, devices, asked, spellings, clock, refuse }
}

test('a new contact is queried once, even for many messages at a time', async () => {
  const { recipients, asked } = fixture()
  await Promise.all(Array.from({ length: 5 }, () => recipients.prepare(JID)))
  assert.equal(await recipients.prepare(JID), JID)
  assert.deepEqual(asked, ['number', 'devices', 'sessions of 2'])
})

test('a contact of earlier links is not queried again', async () => {
  const { recipients, asked } = fixture({ known: true })
  await recipients.prepare(JID)
  assert.deepEqual(asked, ['devices', 'sessions of 2'])
})

test('a forgotten device list is queried again, the number is not', async () => {
  const { recipients, devices, asked } = fixture()
  await recipients.prepare(JID)
  devices.flushAll()
  await recipients.prepare(JID)
  assert.deepEqual(asked, ['number', 'devices', 'sessions of 2', 'devices', 'sessions of 2'])
})

test('WhatsApp’s own spelling of a number is used, and kept: receipts come from it', async () => {
  const { recipients, spellings } = fixture({ onWhatsApp: async () => [{ jid: '551199998888@s.whatsapp.net', exists: true }] })
  assert.equal(await recipients.prepare('5511999998888@s.whatsapp.net'), '551199998888@s.whatsapp.net')
  assert.deepEqual(spellings, { 5511999998888: '551199998888' })
})

test('"no such number" and "no answer" are distinguished', async () => {
  const absent = fixture({ onWhatsApp: async () => [] })
  await assert.rejects(absent.recipients.prepare(JID), NotOnWhatsApp)
  const silent = fixture({ onWhatsApp: async () => undefined })
  await assert.rejects(silent.recipients.prepare(JID), NoAnswer)
})

test('a known contact without devices has left WhatsApp, or the query had no answer', async () => {
  const left = fixture({ known: true, listed: false, onWhatsApp: async () => [] })
  await assert.rejects(left.recipients.prepare(JID), NotOnWhatsApp)
  const silent = fixture({ known: true, listed: false, onWhatsApp: async () => undefined })
  await assert.rejects(silent.recipients.prepare(JID), NoAnswer)
})

test('after a failure the next message queries again', async () => {
  let answers = 0
  const { recipients } = fixture({ onWhatsApp: async () => (answers++ ? [{ jid: JID, exists: true }] : undefined) })
  await assert.rejects(recipients.prepare(JID), NoAnswer)
  assert.equal(await recipients.prepare(JID), JID)
})

test('a hidden id is prepared without a query for its number', async () => {
  const { recipients, asked } = fixture()
  assert.equal(await recipients.prepare('2002@lid'), '2002@lid')
  await recipients.prepare('2002@lid')
  assert.deepEqual(asked, ['devices again', 'sessions of 2'])
  await assert.rejects(fixture({ listed: false }).recipients.prepare('2002@lid'), NotOnWhatsApp)
})

test('a group is queried once, and needs sessions only with members who lack our key for it', async () => {
  const { recipients, asked } = fixture({ withKey: { '2002@lid': true } })
  assert.equal(await recipients.prepare(GROUP), GROUP)
  await recipients.prepare(GROUP)
  assert.deepEqual(asked, ['group', 'devices', 'sessions of 1', 'devices', 'sessions of 1'])
})

test('after an invalidation everything is queried again, once', async () => {
  const { recipients, asked } = fixture()
  await recipients.prepare(JID)
  recipients.invalidate(JID)
  await recipients.prepare(JID)
  await recipients.prepare(JID)
  assert.deepEqual(asked.slice(3), ['devices again', 'new sessions of 2'])
})

test('after the invalidation of a group all its members get our key for it again', async () => {
  const { recipients, asked } = fixture({ withKey: { '2002@lid': true, '3003@lid': true } })
  await recipients.prepare(GROUP)
  recipients.invalidate(GROUP)
  await recipients.prepare(GROUP)
  assert.deepEqual(asked, ['group', 'devices', 'group', 'devices again', 'new sessions of 2'])
})

test('the device cache drops the oldest entries, and has the interface that Baileys expects', () => {
  const cache = new DevicesCache()
  cache.mset(Array.from({ length: 2001 }, (_, n) => ({ key: String(n), value: [n] })))
  assert.equal(cache.get('0'), undefined)
  assert.deepEqual(cache.mget(['0', '1', '2000']), { 1: [1], 2000: [2000] })
  cache.del('1')
  assert.equal(cache.has('1'), false)
})

const limit = code => Object.assign(new Error('limited'), { data: code })

test('while WhatsApp answers no queries for numbers, new contacts are refused without a query', async () => {
  const { recipients, asked, refuse, clock } = fixture({ refuse: { number: limit(429) } })
  for (const jid of [JID, '962788888888@s.whatsapp.net']) {
    await assert.rejects(recipients.prepare(jid), ({ code, kind }) => code === 'rate-limited' && kind === 'usync')
  }
  assert.deepEqual(asked, ['number'])
  refuse.number = undefined
  clock.nowMs = 2000
  assert.equal(await recipients.prepare(JID), JID)
})

test('while WhatsApp gives no key bundles, those without a session are refused before any query', async () => {
  const { recipients, asked } = fixture({ known: true, refuse: { sessions: limit(503) } })
  await assert.rejects(recipients.prepare(JID), ({ code }) => code === 'server-busy')
  await assert.rejects(recipients.prepare('962788888888@s.whatsapp.net'), QueryLimited)
  assert.deepEqual(asked, ['devices', 'sessions of 2'])
})

test('people with a session get messages while WhatsApp gives no key bundles', async () => {
  const known = '962788888888@s.whatsapp.net'
  const { recipients } = fixture({ known: true, refuse: { sessions: limit(503) }, sessions: [known, `${OWN}@s.whatsapp.net`] })
  await assert.rejects(recipients.prepare(JID), QueryLimited)
  assert.equal(await recipients.prepare(known), known)
})

test('people with cached devices get messages while WhatsApp answers no queries for devices', async () => {
  const other = '962788888888@s.whatsapp.net'
  const { recipients, refuse, asked } = fixture({ known: true })
  await recipients.prepare(JID)
  refuse.number = limit(429)
  await assert.rejects(fixture({ refuse: { number: limit(429) } }).recipients.prepare(other), QueryLimited)
  assert.equal(await recipients.prepare(JID), JID)
  assert.deepEqual(asked, ['devices', 'sessions of 2'])
})

test('the audience of a status is prepared in parts, and people without WhatsApp are left out', async () => {
  const people = Array.from({ length: 120 }, (_, n) => `96279000${1000 + n}@s.whatsapp.net`)
  const { recipients, asked } = fixture()
  assert.deepEqual(await recipients.prepareAudience(people), people)
  assert.deepEqual(asked, ['devices', 'sessions of 51', 'devices', 'sessions of 51', 'devices', 'sessions of 21'])
  await assert.rejects(fixture({ listed: false }).recipients.prepareAudience([JID]), NoAudience)
})
