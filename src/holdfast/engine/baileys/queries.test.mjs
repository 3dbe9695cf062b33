import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Queries } from './queries.mjs'
import { QueryLimits } from './querylimits.mjs'

const user = (asked, jid, type, lid) => ({
  tag: 'user',
  attrs: { jid },
  content: [
    { tag: 'contact', attrs: { type }, content: Buffer.from(`+${asked}`) },
    ...(lid ? [{ tag: 'lid', attrs: { val: lid } }] : [])
  ]
})

const answerOf = users => ({
  tag: 'iq',
  attrs: {},
  content: [{ tag: 'usync', attrs: {}, content: [{ tag: 'list', attrs: {}, content: users }] }]
})

const queriesOf = query => new Queries({ sock: { query }, limits: new QueryLimits(), groups: {} })

test('answers about numbers are in the requested order, in the spelling that WhatsApp uses', async () => {
  const asked = []
  const queries = queriesOf(async ({ content: [usync] }) => {
    const list = usync.content[1].content.map(({ content: [contact] }) => contact.content)
    asked.push(list)
    return answerOf([
      user('551199998888', '55119999888@s.whatsapp.net', 'in', '77:3@lid'),
      user('962790000001', '962790000001@s.whatsapp.net', 'out')
    ])
  })
  const rows = await queries.run('check-numbers', { numbers: ['962790000001', '551199998888'], atOnce: 50 })
  assert.deepEqual(asked, [['+962790000001', '+551199998888']])
  assert.deepEqual(rows, [
    { number: '962790000001' },
    { number: '551199998888', chat: '55119999888@s.whatsapp.net', lid: '77@lid' }
  ])
})

test('many numbers are queried in batches, one after the other', async () => {
  let running = 0
  let most = 0
  let count = 0
  const queries = queriesOf(async ({ content: [usync] }) => {
    most = Math.max(most, (running += 1))
    count += 1
    await new Promise(setImmediate)
    running -= 1
    return answerOf(usync.content[1].content.map(({ content: [contact] }) => user(contact.content.slice(1), '1@s.whatsapp.net', 'in')))
  })
  const numbers = Array.from({ length: 120 }, (_, n) => `96279000${1000 + n}`)
  assert.equal((await queries.run('check-numbers', { numbers, atOnce: 50 })).length, 120)
  assert.deepEqual([count, most], [3, 1])
})

test('numbers missing from WhatsApp’s answer have no row', async () => {
  for (const answer of [{ tag: 'iq', attrs: {} }, answerOf([]), answerOf([{ tag: 'user', attrs: {} }])]) {
    assert.deepEqual(await queriesOf(async () => answer).run('check-numbers', { numbers: ['1'], atOnce: 50 }), [])
  }
})

test('an unknown query is an error, even one named like a member of Object', async () => {
  for (const name of ['nonsense', 'constructor', '__proto__']) {
    await assert.rejects(queriesOf(async () => answerOf([])).run(name, {}), /there is no query/)
  }
})

test('a username leads to a hidden id, and to none when nobody has it or a key protects it', async () => {
  const answered = async node => {
    const asked = []
    const queries = queriesOf(async ({ content: [usync] }) => {
      asked.push(usync.content[1].content[0].content[0].attrs)
      return answerOf([node])
    })
    const found = await queries.run('find-username', { username: 'rami' })
    assert.deepEqual(asked, [{ username: 'rami' }])
    return found
  }
  const contact = type => [{ tag: 'contact', attrs: { type, username: 'rami' } }]
  assert.deepEqual(await answered({ tag: 'user', attrs: { jid: '77@lid' }, content: contact('in') }), { jid: '77@lid', lid: '77@lid' })
  const shown = { jid: '77@lid', pn_jid: '962790000001@s.whatsapp.net' }
  assert.deepEqual(await answered({ tag: 'user', attrs: shown, content: contact('in') }), { jid: '962790000001@s.whatsapp.net', lid: '77@lid' })
  assert.deepEqual(await answered({ tag: 'user', attrs: { jid: '77@lid' }, content: contact('out') }), {})
  assert.deepEqual(await answered({ tag: 'user', attrs: {}, content: contact('in') }), {})
})

test('hidden ids exist when they have devices; a username comes with the answer', async () => {
  const devices = ids => ({
    tag: 'devices',
    attrs: {},
    content: [{ tag: 'device-list', attrs: {}, content: ids.map(id => ({ tag: 'device', attrs: { id } })) }]
  })
  const username = { tag: 'username', attrs: {}, content: Buffer.from('rami') }
  const queries = queriesOf(async () =>
    answerOf([
      { tag: 'user', attrs: { jid: '77@lid' }, content: [devices(['0']), username] },
      { tag: 'user', attrs: { jid: '78@lid' }, content: [devices([])] },
      { tag: 'user', attrs: { jid: '99@lid' }, content: [devices(['0'])] }
    ])
  )
  assert.deepEqual(await queries.run('find-hidden', { lids: ['77@lid', '78@lid'], atOnce: 50 }), [
    { lid: '77@lid', exists: true, username: 'rami' },
    { lid: '78@lid', exists: false }
  ])
})
