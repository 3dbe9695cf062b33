import assert from 'node:assert/strict'
import { test } from 'node:test'

import { QrCodes } from './qrcodes.mjs'

function fixture() {
  const log = []
  const state = { busy: false }
  const codes = new QrCodes({ isBusy: () => state.busy, shown: (...code) => log.push(code), usedUp: () => log.push('used up') })
  const stanza = { tag: 'iq', content: [{ tag: 'pair-device', content: [{ tag: 'ref', content: Buffer.from('2@a') }] }] }
  codes.lengthen(stanza)
  return { codes, log, state, refs: stanza.content[0].content.map(({ content }) => content.toString()) }
}

test('Baileys has references for longer than the ten minutes of a challenge', () => {
  const spareMs = 20_000 * (fixture().refs.length - 1)
  assert.equal(spareMs, 11 * 60_000)
})

test('codes are shown until they are used up, the first for longer than the others', () => {
  const { codes, log } = fixture()
  for (const ref of ['2@a', '2@b', 'holdfast-spare']) codes.next(`https://wa.me/settings/linked_devices#${ref},a,b,c,1`)
  assert.deepEqual(log, [
    ['https://wa.me/settings/linked_devices#2@a,a,b,c,1', 60_000],
    ['https://wa.me/settings/linked_devices#2@b,a,b,c,1', 20_000],
    'used up'
  ])
})

test('while a person signs no code is shown, and none ends the link', () => {
  const { codes, log, state } = fixture()
  state.busy = true
  codes.next('2@a,…')
  codes.next('holdfast-spare,…')
  assert.deepEqual(log, [])
})
