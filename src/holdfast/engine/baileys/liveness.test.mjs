// Frames are reported once a second at most, and each ping's answer under its number.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Liveness } from './liveness.mjs'

function made() {
  const reports = []
  return { reports, liveness: new Liveness({ report: report => reports.push(report) }) }
}

test('frames are reported once a second at most', () => {
  const { liveness, reports } = made()
  for (const now of [0, 999, 1000, 1500]) liveness.frame({ tag: 'ib', attrs: {} }, now)
  assert.deepEqual(reports, [{ r: 'frame' }, { r: 'frame' }])
})

test('the answer to a ping is reported once, under its number', async () => {
  const { liveness, reports } = made()
  const sent = []
  const sock = { generateMessageTag: () => 'id-1', sendNode: async node => sent.push(node) }
  await liveness.ping(sock, 7)
  assert.equal(sent[0].attrs.id, 'id-1')
  for (const _ of [1, 2]) liveness.frame({ tag: 'iq', attrs: { id: 'id-1' } }, 0)
  liveness.frame(undefined, 0)
  assert.deepEqual(reports, [{ r: 'frame' }, { r: 'pong', n: 7 }])
})

test('a ping on a closed socket raises no error', async () => {
  const { liveness } = made()
  await liveness.ping({ generateMessageTag: () => 'x', sendNode: async () => { throw new Error('closed') } }, 1)
})
