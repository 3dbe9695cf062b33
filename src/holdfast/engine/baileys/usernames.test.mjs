import assert from 'node:assert/strict'
import { test } from 'node:test'

import { QueryLimited } from './querylimits.mjs'
import { Usernames } from './usernames.mjs'

const answerOf = users => ({
  tag: 'iq',
  attrs: {},
  content: [{ tag: 'usync', attrs: {}, content: [{ tag: 'list', attrs: {}, content: users }] }]
})
const named = (jid, username) => ({ tag: 'user', attrs: { jid }, content: [{ tag: 'username', attrs: {}, content: Buffer.from(username) }] })

const settled = () => new Promise(setImmediate)

function make(answer) {
  const asked = []
  const learned = []
  const ask = async ({ content: [usync] }) => {
    asked.push(usync.content[1].content[0].attrs.jid)
    return answer()
  }
  return { usernames: new Usernames({ ask, commit: each => learned.push(each) }), asked, learned }
}

test('the username of somebody without a number is learned once', async () => {
  const { usernames, asked, learned } = make(() => answerOf([named('77@lid', 'Rami.H')]))
  usernames.observe({ from: '77:3@lid' })
  usernames.observe({ from: '77@lid' })
  await settled()
  assert.deepEqual(asked, ['77@lid'])
  assert.deepEqual(learned, [{ '77@lid': 'rami.h' }])
})

test('nobody is queried whose number is known, nor our own phone, nor a group', async () => {
  const { usernames, asked } = make(() => answerOf([]))
  usernames.observe({ from: '77@lid', sender_pn: '962790000001@s.whatsapp.net' })
  usernames.observe({ from: '88@lid', recipient: '77@lid' })
  usernames.observe({ from: '962790000001@s.whatsapp.net' })
  usernames.observe({ from: '1203@g.us', participant: '77@lid' })
  await settled()
  assert.deepEqual(asked, [])
})

test('an answer about somebody else, or with another form, teaches nothing', async () => {
  for (const user of [named('88@lid', 'rami'), named('77@lid', 'x'.repeat(999)), named('77@lid', '<b>'), { tag: 'user', attrs: {} }]) {
    const { usernames, learned } = make(() => answerOf([user]))
    usernames.observe({ from: '77@lid' })
    await settled()
    assert.deepEqual(learned, [])
  }
})

test('under a rate limit the next message asks again', async () => {
  let limited = true
  const { usernames, learned } = make(() => {
    if (limited) throw new QueryLimited('usync', 5)
    return answerOf([named('77@lid', 'rami')])
  })
  usernames.observe({ from: '77@lid' })
  await settled()
  await settled()
  limited = false
  usernames.observe({ from: '77@lid' })
  await settled()
  await settled()
  assert.deepEqual(learned, [{ '77@lid': 'rami' }])
})
