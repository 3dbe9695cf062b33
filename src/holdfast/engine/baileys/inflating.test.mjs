import './inflating.mjs'

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { createInflate, deflateSync, inflate } from 'node:zlib'

import { downloadAndProcessHistorySyncNotification, proto } from 'baileys'

import { MOST_BYTES } from './inflating.mjs'

const bomb = deflateSync(Buffer.alloc(MOST_BYTES + 1))

test('data within the bound is inflated as usual', async () => {
  const data = Buffer.from('history '.repeat(10_000))
  assert.deepEqual(await promisify(inflate)(deflateSync(data)), data)
  const parts = []
  const stream = createInflate()
  stream.end(deflateSync(data))
  for await (const part of stream) parts.push(part)
  assert.deepEqual(Buffer.concat(parts), data)
})

test('a zip bomb ends in an error, in one piece and as a stream', async () => {
  await assert.rejects(promisify(inflate)(bomb), RangeError)
  const stream = createInflate()
  stream.end(bomb)
  await assert.rejects(async () => {
    for await (const part of stream) assert.ok(part.length)
  }, RangeError)
})

test('Baileys refuses a history that is a zip bomb', async () => {
  const notice = { initialHistBootstrapInlinePayload: bomb, syncType: proto.HistorySync.HistorySyncType.RECENT }
  await assert.rejects(downloadAndProcessHistorySyncNotification(notice, {}), RangeError)
})
