import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Answers } from './answers.mjs'

test('a receipt in a group counts only from its members, if they are known', () => {
  const reports = []
  const members = { '1@g.us': new Set(['77']) }
  const answers = new Answers({
    sock: {},
    creds: { me: { id: '5:1@s.whatsapp.net' } },
    recipients: {},
    store: { peek: () => undefined },
    groups: { hasMember: (jid, person) => members[jid]?.has(person.split('@')[0]) },
    report: ({ chat, participant }) => reports.push([chat, participant])
  })
  const attrs = { id: '3EB0', t: '1700000000' }
  assert.equal(answers.receipt({ ...attrs, from: '1@g.us', participant: '88@lid' }), false)
  assert.equal(answers.receipt({ ...attrs, from: '1@g.us', participant: '77@lid' }), true)
  assert.equal(answers.receipt({ ...attrs, from: '2@g.us', participant: '88@lid' }), true)
  assert.deepEqual(reports, [['1@g.us', '77@lid'], ['2@g.us', '88@lid']])
})

test('ids that Holdfast can’t have created are removed from a receipt, and an ack of one is ignored', () => {
  const reports = []
  const answers = new Answers({ sock: {}, creds: {}, locks: {}, recipients: {}, store: { peek: () => undefined }, report: each => reports.push(each) })
  const items = ['3EB0', 'x'.repeat(1000), 'a\0b', ''].map(id => ({ attrs: { id } }))
  answers.receipt({ id: '\ud800', from: '1@s.whatsapp.net' }, [{ content: items }])
  answers.ack({ id: 'x'.repeat(1000), from: '1@s.whatsapp.net' })
  assert.deepEqual(reports.map(({ whatsappIds }) => whatsappIds), [['3EB0']])
})

test('a receipt of an unknown type is ignored, even if objects have a member of that name', () => {
  const reports = []
  const answers = new Answers({ sock: {}, creds: {}, store: { peek: () => undefined }, report: each => reports.push(each) })
  for (const type of ['constructor', '__proto__', 'toString', 'hasOwnProperty', 'sender', 'READ']) {
    assert.equal(answers.receipt({ id: '3EB0', from: '1@s.whatsapp.net', type }, undefined), false, type)
  }
  assert.deepEqual(reports, [])
})

test('what another device of the account read is a change of the chat, whoever may see it', () => {
  const answers = new Answers({
    sock: {},
    creds: { me: { id: '5:1@s.whatsapp.net', lid: '55:1@lid' } },
    store: { peek: (_, id) => (id === '77_reverse' ? '7' : undefined) }
  })
  const more = [{ content: [{ attrs: { id: '3A02' } }] }]
  const chat = { from: '55@lid', recipient: '77@lid', id: '3A01', type: 'read' }
  assert.deepEqual(answers.readElsewhere(chat, more), { t: 'read', chat: '7@s.whatsapp.net', whatsappIds: ['3A01', '3A02'] })
  const group = { from: '1@g.us', participant: '55@lid', id: '3A01', type: 'read-self' }
  assert.deepEqual(answers.readElsewhere(group), { t: 'read', chat: '1@g.us', whatsappIds: ['3A01'] })
  for (const other of [{ ...chat, type: undefined }, { ...chat, from: '77@lid' }, { ...group, participant: '77@lid' }]) {
    assert.equal(answers.readElsewhere(other), null)
  }
})
