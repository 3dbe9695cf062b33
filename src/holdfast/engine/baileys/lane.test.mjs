import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Lane } from './lane.mjs'

test('jobs run one after the other, in order', async () => {
  const lane = new Lane()
  const log = []
  const work = name => async () => {
    log.push(`${name} begins`)
    await null
    log.push(`${name} ends`)
    return name
  }
  assert.deepEqual(await Promise.all([lane.run(work('a')), lane.run(work('b'))]), ['a', 'b'])
  assert.deepEqual(log, ['a begins', 'a ends', 'b begins', 'b ends'])
})

test('a failure affects only its own job', async () => {
  const lane = new Lane()
  const failing = lane.run(async () => {
    throw new Error('no')
  })
  const next = lane.run(async () => 'yes')
  await assert.rejects(failing, /no/)
  assert.equal(await next, 'yes')
})

test('the event loop runs between two jobs', async () => {
  const lane = new Lane()
  let turns = 0
  let counting = true
  const count = () => {
    turns += 1
    if (counting) setImmediate(count)
  }
  setImmediate(count)
  await Promise.all(Array.from({ length: 50 }, () => lane.run(async () => {})))
  counting = false
  assert.ok(turns >= 49, `${turns} turns`)
})

test('a closed lane rejects waiting and later jobs', async () => {
  const lane = new Lane()
  const running = lane.run(() => new Promise(resolve => setImmediate(resolve)))
  const waiting = lane.run(async () => {})
  const rejected = assert.rejects(waiting, /closed/)
  lane.close(new Error('closed'))
  await running
  await rejected
  await assert.rejects(lane.run(async () => {}), /closed/)
})
