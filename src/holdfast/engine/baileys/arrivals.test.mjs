import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Arrivals } from './arrivals.mjs'

function fixture() {
  const log = []
  const inbound = {
    note: stanza => log.push(`note ${stanza.attrs.id}`),
    unreadable: async stanza => ({ whatsappId: stanza.attrs.id })
  }
  const arrivals = new Arrivals({ inbound, missed: ({ whatsappId }) => log.push(`missed ${whatsappId}`) })
  const settled = async () => {
    for (let turn = 0; turn < 10; turn += 1) await new Promise(setImmediate)
    return log
  }
  return { arrivals, log, settled }
}

const message = (id, ...tags) => ({ tag: 'message', attrs: { id, offline: '1' }, content: tags.map(tag => ({ tag, attrs: {} })) })

test('messages are handed on one after the other, without the mark of the offline queue', async () => {
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

test('one that fails holds up no other', async () => {
  const { arrivals, log, settled } = fixture()
  const take = arrivals.around(async ({ attrs }) => {
    if (attrs.id === 'a') throw new Error('nonsense')
    log.push(attrs.id)
  })
  take(message('a', 'enc'))
  take(message('b', 'enc'))
  assert.deepEqual(await settled(), ['note a', 'note b', 'b'])
})

test('a message whose content WhatsApp keeps is told as missed before Baileys answers it', async () => {
  const { arrivals, log, settled } = fixture()
  const take = arrivals.around(async ({ attrs }) => log.push(`answer ${attrs.id}`))
  take(message('a', 'unavailable'))
  take(message('b', 'unavailable', 'enc'))
  take({ tag: 'message', attrs: { id: 'c' } })
  assert.deepEqual((await settled()).slice(3), ['missed a', 'answer a', 'answer b', 'answer c'])
})
