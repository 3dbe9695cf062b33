import assert from 'node:assert/strict'
import { test } from 'node:test'

import { groupChanges } from './groupchanges.mjs'

const PHONES = { '2002@lid': '962799999999@s.whatsapp.net' }
const plain = jid => PHONES[jid.replace(/:\d+/, '')] ?? jid.replace(/:\d+/, '')
const ACTOR = { participant: '2002@lid', participant_pn: '962799999999@s.whatsapp.net', notify: 'Layla' }
const THIRD = { jid: '3003@lid', phone_number: '962711111111@s.whatsapp.net' }

const notice = (tag, attrs = {}, content = undefined, outer = {}) => ({
  tag: 'notification',
  attrs: { from: '1203@g.us', type: 'w:gp2', id: 'n1', t: '1700000000', ...ACTOR, ...outer },
  content: [{ tag, attrs, content }]
})
const change = (...args) => groupChanges(notice(...args), plain)[0]
const people = (...list) => list.map(attrs => ({ tag: 'participant', attrs }))

test('a member is added: who, whom, when', () => {
  assert.deepEqual(change('add', {}, people({ ...THIRD, type: 'admin' })), {
    noticeId: 'n1 0',
    group: '1203@g.us',
    kind: 'members_added',
    actor: '962799999999@s.whatsapp.net',
    actorLid: '2002@lid',
    actorName: 'Layla',
    participants: [{ jid: '962711111111@s.whatsapp.net', lid: '3003@lid', role: 'admin' }],
    atS: 1700000000
  })
})

test('who removes himself has left', () => {
  assert.equal(change('remove', {}, people(THIRD)).kind, 'members_removed')
  assert.equal(change('remove', {}, people({ jid: '2002@lid' })).kind, 'members_left')
})

test('settings, texts and requests have their value', () => {
  const body = [{ tag: 'body', attrs: {}, content: Buffer.from('Fresh flowers') }]
  const cases = [
    [['subject', { subject: 'Tulips' }], 'subject', 'Tulips'],
    [['description', { id: 'd' }, body], 'description', 'Fresh flowers'],
    [['description', { delete: 'true' }], 'description', null],
    [['announcement'], 'announce_only', true],
    [['unlocked'], 'locked', false],
    [['ephemeral', { expiration: '86400' }], 'disappearing', 86400],
    [['not_ephemeral'], 'disappearing', 0],
    [['member_add_mode', {}, Buffer.from('all_member_add')], 'members_add', true],
    [['membership_approval_mode', {}, [{ tag: 'group_join', attrs: { state: 'on' } }]], 'join_approval', true],
    [['created_membership_requests', { request_method: 'invite_link' }], 'join_requested', 'invite_link'],
    [['revoked_membership_requests', {}, people(THIRD)], 'join_request_rejected', undefined],
    [['revoked_membership_requests'], 'join_request_withdrawn', undefined],
    [['invite', { code: 'secret' }], 'invite_revoked', undefined],
    [['constructor'], 'other', 'constructor']
  ]
  for (const [given, kind, value] of cases) {
    const found = change(...given)
    assert.deepEqual([found.kind, found.value], [kind, value])
  }
  assert.deepEqual(change('created_membership_requests').participants.map(({ jid }) => jid), ['962799999999@s.whatsapp.net'])
})

test('a new picture is a change of the group; that of a person is none', () => {
  const picture = { type: 'picture', participant: undefined, participant_pn: undefined }
  const set = change('set', { author: '2002:3@lid', hash: 'x' }, undefined, picture)
  assert.deepEqual([set.kind, set.value, set.actor], ['picture', true, '962799999999@s.whatsapp.net'])
  assert.equal(change('delete', {}, undefined, picture).value, false)
  assert.deepEqual(groupChanges({ attrs: { from: '2002@lid', type: 'picture', id: 'n' }, content: [{ tag: 'set', attrs: {} }] }, plain), [])
})

test('a hostile notification yields bounded changes', () => {
  const many = Array.from({ length: 5000 }, (_, n) => ({ jid: `${n}@lid` }))
  assert.equal(change('add', {}, people(...many)).participants.length, 1024)
  const flood = { ...notice('add'), content: Array.from({ length: 100 }, () => ({ tag: 'subject', attrs: { subject: 'x'.repeat(10_000) } })) }
  const changes = groupChanges(flood, plain)
  assert.equal(changes.length, 16)
  assert.equal(changes[0].value.length, 4096)
})
