import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ContactPresence } from './contactpresence.mjs'

const PHONES = { '2002@lid': '962799999999@s.whatsapp.net' }
const plain = jid => PHONES[jid.replace(/:\d+/, '')] ?? jid.replace(/:\d+/, '')

function fixture(context) {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const reports = []
  const presence = new ContactPresence({ plain, isMe: jid => jid.startsWith('1001'), report: each => reports.push(each) })
  return { presence, reports, states: () => reports.map(({ state }) => state), later: () => context.mock.timers.tick(1000) }
}

const typing = (from, tag, attrs = {}) => ({ tag: 'chatstate', attrs: { from }, content: [{ tag, attrs }] })

test('online, last seen, writing and speaking, by person and chat', context => {
  const { presence, reports, later } = fixture(context)
  presence.observe({ tag: 'presence', attrs: { from: '2002@lid', type: 'unavailable', last: '1700000000' } })
  later()
  presence.observe({ tag: 'presence', attrs: { from: '2002@lid', last: 'deny' } })
  later()
  presence.observe({ ...typing('1203@g.us', 'composing', { media: 'audio' }), attrs: { from: '1203@g.us', participant: '2002:4@lid' } })
  const person = '962799999999@s.whatsapp.net'
  assert.deepEqual(reports, [
    { r: 'presence', chat: person, sender: person, state: 'unavailable', lastSeenS: 1700000000 },
    { r: 'presence', chat: person, sender: person, state: 'available', lastSeenS: undefined },
    { r: 'presence', chat: '1203@g.us', sender: person, state: 'recording', lastSeenS: undefined }
  ])
})

test('a contact is reported once a period, with its latest state, and not again without a change', context => {
  const { presence, states, later } = fixture(context)
  for (let n = 0; n < 1000; n += 1) presence.observe(typing('2002@lid', n % 2 ? 'paused' : 'composing'))
  assert.deepEqual(states(), ['composing'])
  later()
  assert.deepEqual(states(), ['composing', 'paused'])
  presence.observe(typing('2002@lid', 'paused'))
  later()
  assert.deepEqual(states(), ['composing', 'paused'])
})

test('thousands of contacts add a bounded number of reports a period', context => {
  const { presence, reports, later } = fixture(context)
  for (let n = 0; n < 5000; n += 1) presence.observe(typing(`${n}@lid`, 'composing'))
  for (let n = 0; n < 5; n += 1) later()
  assert.equal(reports.length, 1 + 5 * 20)
  presence.close()
})

test('own presence, unknown states and stanzas without a sender are ignored', context => {
  const { presence, reports } = fixture(context)
  presence.observe({ tag: 'presence', attrs: { from: '1001:7@lid' } })
  presence.observe({ tag: 'presence', attrs: { from: '2002@lid', type: 'subscribe' } })
  presence.observe({ tag: 'presence', attrs: {} })
  presence.observe(typing('2002@lid', 'constructor'))
  presence.observe({ tag: 'chatstate', attrs: { from: '2002@lid' } })
  assert.deepEqual(reports, [])
})
