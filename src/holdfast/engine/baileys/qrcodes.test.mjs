import assert from 'node:assert/strict'
import { test } from 'node:test'

import { QrCodes } from './qrcodes.mjs'

function fixture(lastsMs) {
  const log = []
  const state = { busy: false }
  const codes = new QrCodes({ lastsMs, isBusy: () => state.busy, shown: qr => log.push(qr), usedUp: () => log.push('used up') })
  const stanza = { tag: 'iq', content: [{ tag: 'pair-device', content: [{ tag: 'ref', content: Buffer.from('2@a') }] }] }
  codes.lengthen(stanza)
  return { codes, log, state, refs: stanza.content[0].content.map(({ content }) => content.toString()) }
}

test('Baileys has references for longer than the ten minutes of a challenge', () => {
  assert.equal(fixture(60_000).refs.length - 1, 11)
  assert.equal(fixture(undefined).refs.length - 1, 33)
})

test('codes are shown until they are used up', () => {
  const { codes, log, refs } = fixture(60_000)
  for (const ref of refs.slice(0, 2)) codes.next(`https://wa.me/settings/linked_devices#${ref},a,b,c,1`)
  assert.deepEqual(log, ['https://wa.me/settings/linked_devices#2@a,a,b,c,1', 'used up'])
})

test('while a person signs no code is shown, and none ends the link', () => {
  const { codes, log, state } = fixture(60_000)
  state.busy = true
  codes.next('2@a,…')
  codes.next('holdfast-spare,…')
  assert.deepEqual(log, [])
})
