import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Calls } from './calls.mjs'

const PHONES = { '2002@lid': '962799999999@s.whatsapp.net' }
const plain = jid => PHONES[jid.replace(/:\d+/, '')] ?? jid.replace(/:\d+/, '')
const isMe = jid => jid.startsWith('1001')

function observe(...stanzas) {
  const signals = []
  const calls = new Calls({ plain, isMe, commit: some => signals.push(...some) })
  for (const stanza of stanzas) calls.observe(stanza)
  return signals
}

const call = (tag, attrs = {}, content = undefined, outer = {}) => ({
  tag: 'call',
  attrs: { from: '3003:5@lid', id: 's1', t: '1700000000', notify: 'Layla', ...outer },
  content: [{ tag, attrs: { 'call-id': 'C1', 'call-creator': '3003:5@lid', ...attrs }, content }]
})

test('an offer names the caller by number; its end is reported for the same person', () => {
  const video = [{ tag: 'audio', attrs: {} }, { tag: 'video', attrs: {} }]
  const [offer, end] = observe(
    call('offer', { caller_pn: '962711111111@s.whatsapp.net' }, video, { offline: '0' }),
    call('terminate', { reason: 'timeout' })
  )
  assert.deepEqual(offer, {
    callId: 'C1',
    kind: 'offer',
    caller: '962711111111@s.whatsapp.net',
    callerLid: '3003@lid',
    creator: '3003@lid',
    video: true,
    group: undefined,
    pushName: 'Layla',
    atS: 1700000000,
    offline: true
  })
  assert.deepEqual([end.kind, end.caller], ['missed', '962711111111@s.whatsapp.net'])
})

test('how a call ended, and what is only a step of one', () => {
  const ends = [['accept', {}], ['reject', {}], ['terminate', { reason: 'accepted_elsewhere' }], ['terminate', {}]]
  assert.deepEqual(
    observe(...ends.map(([tag, attrs]) => call(tag, attrs))).map(({ kind }) => kind),
    ['answered', 'rejected', 'answered', 'ended']
  )
  assert.deepEqual(observe(call('relaylatency'), call('transport'), call('preaccept')), [])
})

test('calls of this account, and stanzas without a call, are ignored', () => {
  const without = { tag: 'call', attrs: { from: '3003@lid' } }
  const long = call('offer', { 'call-id': 'x'.repeat(200) })
  assert.deepEqual(observe(call('offer', { 'call-creator': '1001:2@lid' }), without, { ...without, content: [{ tag: 'offer', attrs: {} }] }, long), [])
})
