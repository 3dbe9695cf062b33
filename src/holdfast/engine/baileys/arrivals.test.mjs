import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Arrivals } from './arrivals.mjs'

function fixture() {
  const log = []
  const inbound = {
    note: stanza => log.push(`note ${stanza.attrs.id}`),
    unreadable: async stanza => ({ whatsappId: stanza.attrs.id }),
    unencrypted: async stanza => (!hasTag(stanza, 'damaged') ? { message: { whatsappId: stanza.attrs.id } } : null),
    isDamaged: stanza => hasTag(stanza, 'damaged')
  }
  const arrivals = new Arrivals({
    inbound,
    missed: ({ whatsappId }) => log.push(`missed ${whatsappId}`),
    arrived: ({ message }) => log.push(`arrived ${message.whatsappId}`)
  })
  const settled = async () => {
    for (let turn = 0; turn < 10; turn += 1) await new Promise(setImmediate)
    return log
  }
  return { arrivals, log, settled }
}

const hasTag = ({ content = [] }, wanted) => content.some(({ tag }) => tag === wanted)
const message = (id, ...tags) => ({ tag: 'message', attrs: { id, offline: '1' }, content: tags.map(tag => ({ tag, attrs: {} })) })

test('messages are passed on one after the other, without the attribute of the offline queue', async () => {
  const { arrivals, log, settled } = fixture()
  const take = arrivals.around(async ({ attrs }) => {
    log.push(`${attrs.id} begins${attrs.offline ?? ''}`)
    await new Promise(setImmediate)
    log.push(`${attrs.id} ends`)
  })
  take(message('a', 'enc'))
  take(message('b', 'enc'))
  assert.deepEqual(await settled(), ['note a', 'a begins', 'note b', 'a ends', 'b begins', 'b ends'])
})

test('a message that fails does not block others', async () => {
  const { arrivals, log, settled } = fixture()
  const take = arrivals.around(async ({ attrs }) => {
    if (attrs.id === 'a') throw new Error('nonsense')
    log.push(attrs.id)
  })
  take(message('a', 'enc'))
  take(message('b', 'enc'))
  assert.deepEqual(await settled(), ['note a', 'note b', 'b'])
})

test('a message whose content WhatsApp keeps is reported as undecryptable before Baileys answers it', async () => {
  const { arrivals, log, settled } = fixture()
  const take = arrivals.around(async ({ attrs }) => log.push(`answer ${attrs.id}`))
  take(message('a', 'unavailable'))
  take(message('b', 'unavailable', 'enc'))
  take({ tag: 'message', attrs: { id: 'c' } })
  assert.deepEqual((await settled()).slice(3), ['missed a', 'answer a', 'answer b', 'answer c'])
})

test('a message that is not encrypted is reported before Baileys acknowledges it', async () => {
  const { arrivals, log, settled } = fixture()
  const take = arrivals.around(async ({ attrs }) => log.push(`answer ${attrs.id}`))
  take(message('a', 'plaintext'))
  take(message('b', 'plaintext', 'damaged'))
  const answered = await settled()
  for (const [report, answer] of [['arrived a', 'answer a'], ['missed b', 'answer b']]) {
    assert.ok(answered.includes(report) && answered.indexOf(report) < answered.indexOf(answer), `${report} before ${answer}`)
  }
})

test('of hundreds of ciphertexts in one message, Baileys gets only the first few', async () => {
  const { arrivals, log, settled } = fixture()
  const take = arrivals.around(async ({ content }) => log.push(content.map(({ tag }) => tag).join(' ')))
  take(message('a', ...Array(300).fill('enc'), 'reporting'))
  assert.equal((await settled()).at(-1), 'enc enc enc enc reporting')
})

const from = (id, chat, attrs = {}) => ({ tag: 'message', attrs: { id, from: chat, ...attrs }, content: [{ tag: 'enc', attrs: {} }] })

test('no chat waits for the messages of another one', async () => {
  const { arrivals, log, settled } = fixture()
  const take = arrivals.around(({ attrs }) => {
    log.push(attrs.id)
    return attrs.from.startsWith('1@') ? new Promise(() => {}) : Promise.resolve()
  })
  for (const id of ['a', 'b']) take(from(id, '1@s.whatsapp.net'))
  take(from('c', '2@s.whatsapp.net'))
  const handled = (await settled()).filter(line => !line.startsWith('note'))
  assert.deepEqual(handled, ['a', 'c'])
})

test('a person’s messages keep their order under all names, including messages that our phone sent to them', async () => {
  const peek = (type, id) => (type === 'lid-mapping' && id === '77_reverse' ? '1' : undefined)
  const log = []
  const arrivals = new Arrivals({ inbound: { note() {} }, missed() {}, peek })
  const take = arrivals.around(async ({ attrs }) => {
    log.push(attrs.id)
    await new Promise(setImmediate)
    log.push(`${attrs.id} ends`)
  })
  take(from('a', '1:5@s.whatsapp.net'))
  take(from('b', '77:3@lid'))
  take(from('c', '88@lid', { sender_pn: '1@s.whatsapp.net' }))
  take(from('d', '9@s.whatsapp.net', { recipient: '77@lid' }))
  for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate)
  assert.deepEqual(log, ['a', 'a ends', 'b', 'b ends', 'c', 'c ends', 'd', 'd ends'])
})

test('messages of many chats are handled sixteen at a time', async () => {
  const begun = []
  const arrivals = new Arrivals({ inbound: { note() {} }, missed() {} })
  const take = arrivals.around(({ attrs }) => {
    begun.push(attrs.id)
    return new Promise(resolve => setTimeout(resolve, 1))
  })
  for (let n = 0; n < 100; n += 1) take(from(String(n), `${n}@s.whatsapp.net`))
  await new Promise(setImmediate)
  assert.equal(begun.length, 16)
  while (begun.length < 100) await new Promise(setImmediate)
})
