import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'

import { modify } from './accountoperations.mjs'
import { VERSIONS } from './appstate.mjs'
import { QueryLimits } from './querylimits.mjs'

const answer = code => ({
  tag: 'iq',
  attrs: { type: 'result' },
  content: [
    {
      tag: 'sync',
      attrs: {},
      content: [
        {
          tag: 'collection',
          attrs: { name: 'regular_low', type: code ? 'error' : 'result' },
          content: code ? [{ tag: 'error', attrs: { code: String(code) } }] : undefined
        }
      ]
    }
  ]
})

function fixture(...codes) {
  const ws = new EventEmitter()
  const forgotten = []
  const made = []
  const sock = {
    ws,
    authState: { creds: { myAppStateKeyId: 'k' }, keys: { set: async changes => forgotten.push(changes) } },
    chatModify: async (change, jid) => {
      made.push([change, jid])
      ws.emit('frame', answer(codes.shift()))
    }
  }
  return { sock, limits: new QueryLimits(), forgotten, made, ws }
}

test('an accepted change is made once', async () => {
  const parts = fixture(undefined)
  await modify(parts, { pin: true }, 'a')
  assert.deepEqual([parts.made, parts.forgotten], [[[{ pin: true }, 'a']], []])
  assert.equal(parts.ws.listenerCount('frame'), 0)
})

test('after a conflict the version is forgotten and the change made once more', async () => {
  const parts = fixture(409, undefined)
  await modify(parts, { pin: true }, 'a')
  assert.equal(parts.made.length, 2)
  assert.deepEqual(parts.forgotten, [{ [VERSIONS]: { regular_low: null } }])
})

test('conflicts without end are reported as something that passes', async () => {
  await assert.rejects(modify(fixture(409, 409, 409), { pin: true }, 'a'), error => error.data === 503)
})

test('a refusal is reported with its code', async () => {
  await assert.rejects(modify(fixture(400), { pin: true }, 'a'), error => error.data === 400)
})

test('without the keys of the phone nothing is sent', async () => {
  const parts = fixture()
  parts.sock.authState.creds.myAppStateKeyId = undefined
  await assert.rejects(modify(parts, { pin: true }, 'a'), /not shared its keys/)
  assert.deepEqual(parts.made, [])
})
