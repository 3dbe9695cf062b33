import assert from 'node:assert/strict'
import { test } from 'node:test'

import { QueryLimited, QueryLimits, limitCode } from './querylimits.mjs'

const refusal = (code = 429) => Object.assign(new Error('rate-overlimit'), { data: code, output: { statusCode: 500 } })

/** Limits with a fake clock, a WhatsApp that answers `answers.next`, and how often it was asked. */
function fixture() {
  const clock = { nowMs: 0 }
  const limits = new QueryLimits({ now: () => clock.nowMs, chance: () => 0 })
  const asked = []
  const ask = (error, kind = 'usync') =>
    limits.run(kind, async () => {
      asked.push(clock.nowMs / 1000)
      if (error) throw error
      return 'answer'
    })
  const outcome = async promise => promise.then(value => value, error => error)
  return { clock, limits, asked, ask, outcome }
}

test('while WhatsApp answers none, a kind of query is refused without asking, with the time to wait', async () => {
  const { clock, asked, ask, outcome } = fixture()
  const first = await outcome(ask(refusal()))
  assert.ok(first instanceof QueryLimited)
  assert.deepEqual([first.code, first.kind, first.retryAfterS, first.message], ['rate-limited', 'usync', 2, 'usync: rate-overlimit (429)'])
  clock.nowMs = 500
  assert.equal((await outcome(ask())).retryAfterS, 1.5)
  assert.deepEqual(asked, [0])
})

test('other kinds of queries continue', async () => {
  const { ask, outcome } = fixture()
  await outcome(ask(refusal()))
  assert.equal(await ask(undefined, 'w:g2'), 'answer')
})

test('the pause doubles with every failed probe, up to a minute, and ends with the first answer', async () => {
  const { clock, asked, ask, outcome } = fixture()
  for (let probe = 0; probe < 7; probe += 1) {
    const { retryAfterS } = await outcome(ask(refusal(503)))
    clock.nowMs += retryAfterS * 1000
  }
  assert.deepEqual(asked, [0, 2, 6, 14, 30, 62, 122])
  assert.equal(await ask(), 'answer')
  assert.equal((await outcome(ask(refusal()))).retryAfterS, 2)
})

test('one query probes; those that wait for it are refused or admitted with its answer', async () => {
  for (const error of [refusal(), undefined]) {
    const { clock, asked, ask, outcome } = fixture()
    await outcome(ask(refusal()))
    clock.nowMs = 2000
    const outcomes = await Promise.all(Array.from({ length: 30 }, () => outcome(ask(error))))
    assert.equal(asked.length - 1, error ? 1 : 30)
    assert.ok(outcomes.every(result => (error ? result.retryAfterS === 4 : result === 'answer')))
  }
})

test('queries that fail at the same time start one pause, and few run at a time', async () => {
  const { asked, ask, outcome } = fixture()
  const outcomes = await Promise.all(Array.from({ length: 30 }, () => outcome(ask(refusal()))))
  assert.equal(asked.length, 4)
  assert.ok(outcomes.every(({ retryAfterS }) => retryAfterS === 2))
})

test('an error other than a limit is passed on and frees its slot', async () => {
  const { ask, outcome } = fixture()
  const error = Object.assign(new Error('not found'), { data: 404 })
  const outcomes = await Promise.all(Array.from({ length: 10 }, () => outcome(ask(error))))
  assert.ok(outcomes.every(result => result === error))
  assert.equal(await ask(), 'answer')
})

test('a link that closes rejects waiting and later queries', async () => {
  const { limits, outcome } = fixture()
  const gone = new Error('gone')
  const running = Array.from({ length: 5 }, () => outcome(limits.run('usync', () => new Promise(() => {}))))
  limits.close(gone)
  assert.equal(await running[4], gone)
  assert.equal(await outcome(limits.run('usync', async () => 1)), gone)
})

test('only WhatsApp’s own codes count as limits', () => {
  assert.deepEqual([408, 429, 500, 503].map(code => limitCode(refusal(code))), ['server-busy', 'rate-limited', 'server-busy', 'server-busy'])
  assert.equal(limitCode(refusal(404)), undefined)
  assert.equal(limitCode(Object.assign(new Error('Timed Out'), { output: { statusCode: 408 } })), undefined)
  assert.equal(limitCode(Object.assign(new Error('GraphQL'), { data: { code: 500 } })), undefined)
})
