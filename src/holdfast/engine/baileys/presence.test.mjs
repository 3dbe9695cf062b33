import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Presence } from './presence.mjs'

function presenceOf(me) {
  const sent = []
  const online = []
  const sock = {
    ev: { emit: (event, change) => void (event === 'connection.update' && online.push(change.isOnline)) },
    sendNode: async node => void sent.push(node),
    // As Baileys does: nothing without a name.
    sendPresenceUpdate: async type => void (me.name && sent.push({ tag: 'presence', attrs: { name: me.name, type } }))
  }
  return { presence: new Presence(sock, { me }), sent, online }
}

test('an account without a name gets its presence from the second request on', () => {
  const { presence, sent, online } = presenceOf({ id: '962790000001:1@s.whatsapp.net' })
  presence.opened()
  presence.ask(true)
  assert.deepEqual(sent, [])
  presence.ask(true)
  presence.ask(false)
  assert.deepEqual(sent, ['available', 'unavailable'].map(type => ({ tag: 'presence', attrs: { type } })))
  assert.deepEqual(online, [true, false])
})

test('a name that arrives is sent with the presence that was requested last', () => {
  const me = { id: '962790000001:1@s.whatsapp.net' }
  const { presence, sent } = presenceOf(me)
  presence.opened()
  presence.ask(true)
  me.name = 'Shop'
  presence.credentialsChanged()
  presence.ask(true)
  assert.deepEqual(sent, Array(2).fill({ tag: 'presence', attrs: { name: 'Shop', type: 'available' } }))
})
