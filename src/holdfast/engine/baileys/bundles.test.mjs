import assert from 'node:assert/strict'
import { test } from 'node:test'

import { parseAndInjectE2ESessions } from 'baileys'

import { removeKeylessDevices } from './bundles.mjs'

const node = (tag, attrs, content) => ({ tag, attrs, content })
const key = tag => node(tag, {}, [node('id', {}, Buffer.from([0, 0, 1])), node('value', {}, Buffer.alloc(32, 1)), node('signature', {}, Buffer.alloc(64))])
const device = jid => node('user', { jid }, [node('registration', {}, Buffer.alloc(4)), node('identity', {}, Buffer.alloc(32, 1)), key('skey'), key('key')])
const keyless = jid => node('user', { jid }, [node('error', { code: '406', text: 'not-acceptable' })])
const answer = () => node('iq', { type: 'result' }, [node('list', {}, [device('1@lid'), keyless('2@lid'), device('3@lid')])])

async function sessionsOf(frame) {
  const made = []
  await parseAndInjectE2ESessions(frame, { injectE2ESession: async ({ jid }) => made.push(jid) })
  return made
}

test('a device without keys does not prevent sessions with the others', async () => {
  await assert.rejects(sessionsOf(answer()), /not-acceptable/) // what Baileys does by itself
  const frame = answer()
  removeKeylessDevices(frame)
  assert.deepEqual(await sessionsOf(frame), ['1@lid', '3@lid'])
})

test('everything else stays unchanged', () => {
  const error = node('iq', { type: 'error' }, [node('error', { code: '404' })])
  const devices = node('iq', {}, [node('usync', {}, [node('list', {}, [keyless('1@lid')])])])
  for (const frame of [error, devices, node('message', {}, [node('list', {}, [keyless('1@lid')])]), node('iq', {}, new Uint8Array(1)), undefined]) {
    const before = structuredClone(frame)
    removeKeylessDevices(frame)
    assert.deepEqual(frame, before)
  }
})
