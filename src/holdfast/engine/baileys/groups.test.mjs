import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Groups, NoSuchGroup } from './groups.mjs'

function fixture(people = 2, failures = []) {
  const asked = []
  const ask = async jid => {
    asked.push(jid)
    if (failures.length) throw failures.shift()
    return { participants: Array.from({ length: people }, (_, n) => ({ id: `${n}@lid` })) }
  }
  return { groups: new Groups({ ask }), asked }
}

test('a group is queried once, even by two callers at once, until it is forgotten', async () => {
  const { groups, asked } = fixture()
  await Promise.all([groups.get('1@g.us'), groups.get('1@g.us')])
  assert.equal((await groups.get('1@g.us')).participants.length, 2)
  assert.deepEqual(asked, ['1@g.us'])
  groups.forget('1@g.us')
  await groups.get('1@g.us')
  assert.equal(asked.length, 2)
})

test('a failure is not cached, and an unknown group is distinguished from no answer', async () => {
  const { groups } = fixture(2, [Object.assign(new Error('item-not-found'), { data: 404 }), new Error('Timed Out')])
  await assert.rejects(groups.get('1@g.us'), NoSuchGroup)
  await assert.rejects(groups.get('1@g.us'), /Timed Out/)
  assert.equal((await groups.get('1@g.us')).participants.length, 2)
})

test('the oldest groups are dropped when there are too many people; one large group may stay', async () => {
  const { groups, asked } = fixture(1000)
  for (let n = 0; n < 6; n += 1) await groups.get(`${n}@g.us`)
  await groups.get('5@g.us')
  assert.equal(asked.length, 6)
  await groups.get('0@g.us')
  assert.equal(asked.length, 7)
  const huge = fixture(9000)
  await huge.groups.get('1@g.us')
  await huge.groups.get('1@g.us')
  assert.equal(huge.asked.length, 1)
})

test('members of a group are known after a query, by hidden id and by number', async () => {
  const ask = async () => ({ participants: [{ id: '7@lid', phoneNumber: '1@s.whatsapp.net' }, { id: '2@s.whatsapp.net', lid: '8@lid' }] })
  const groups = new Groups({ ask })
  assert.equal(groups.hasMember('1@g.us', '7@lid'), undefined)
  await groups.get('1@g.us')
  for (const person of ['7:3@lid', '1@s.whatsapp.net', '2@s.whatsapp.net', '8@lid']) assert.equal(groups.hasMember('1@g.us', person), true)
  for (const person of ['9@lid', undefined]) assert.equal(groups.hasMember('1@g.us', person), false)
  groups.forget('1@g.us')
  assert.equal(groups.hasMember('1@g.us', '7@lid'), undefined)
})
