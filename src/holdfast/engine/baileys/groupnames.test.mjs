import assert from 'node:assert/strict'
import { setImmediate as turn } from 'node:timers/promises'
import { test } from 'node:test'

import { GroupNames } from './groupnames.mjs'

// A lane lets other work run between two of its jobs.
async function turns() {
  for (let n = 0; n < 5; n++) await turn()
}

function names({ get = async jid => ({ subject: `group ${jid}` }) } = {}) {
  const committed = []
  const asked = []
  const groups = { get: jid => (asked.push(jid), get(jid)) }
  return { names: new GroupNames({ groups, commit: learned => committed.push(learned) }), committed, asked }
}

test('a group’s subject is queried at its first message, a person’s never', async () => {
  const { names: found, committed, asked } = names()
  for (const jid of ['1@g.us', '1@g.us', '2@g.us', '962790000001@s.whatsapp.net', undefined]) found.observe(jid)
  await turns()
  assert.deepEqual(asked, ['1@g.us', '2@g.us'])
  assert.deepEqual(committed, [{ '1@g.us': 'group 1@g.us' }, { '2@g.us': 'group 2@g.us' }])
})

test('a group without an answer does not block others', async () => {
  const { names: found, committed } = names({
    get: async jid => {
      if (jid === '1@g.us') throw new Error('not ours')
      return { subject: 'x' }
    }
  })
  found.observe('1@g.us')
  found.observe('2@g.us')
  await turns()
  assert.deepEqual(committed, [{ '2@g.us': 'x' }])
})

test('a new subject is taken from the notification; an invalid one is ignored', () => {
  const { names: found, committed } = names()
  found.changed({ attrs: { from: '1@g.us' }, content: [{ tag: 'subject', attrs: { subject: 'New' } }] })
  for (const content of [undefined, [], [{ tag: 'add', attrs: {} }], [{ tag: 'subject', attrs: {} }]]) found.changed({ attrs: { from: '1@g.us' }, content })
  found.changed({ attrs: { from: '1@s.whatsapp.net' }, content: [{ tag: 'subject', attrs: { subject: 'x' } }] })
  assert.deepEqual(committed, [{ '1@g.us': 'New' }])
})

test('subjects of any length are reported in whole characters', async () => {
  const { names: found, committed } = names({ get: async () => ({ subject: '😀'.repeat(200).slice(1) }) })
  found.observe('1@g.us')
  await turns()
  assert.equal(committed[0]['1@g.us'].length, 256)
  assert.ok(committed[0]['1@g.us'].isWellFormed())
})
