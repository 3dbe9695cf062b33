import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Answers } from './answers.mjs'

const ENDS = new Date(7_000_000)

/** A bridge that was refused with 463, WhatsApp's answer to how long that lasts, and what was reported of it. */
function refused() {
  const reports = []
  const asked = Promise.withResolvers()
  const answers = new Answers({
    sock: { fetchAccountReachoutTimelock: () => asked.promise },
    creds: {},
    recipients: {},
    store: {},
    report: report => report.r === 'reach-out-locked' && reports.push([report.active, report.untilS])
  })
  answers.ack({ id: 'A', from: '1@s.whatsapp.net', error: '463' })
  const answer = async told => {
    answers.lock(told)
    asked.resolve(told)
    await new Promise(setImmediate)
    return reports
  }
  return { answers, answer, reports }
}

test('the end that WhatsApp names in answer is told', async () => {
  const { answer } = refused()
  assert.deepEqual(await answer({ isActive: true, timeEnforcementEnds: ENDS }), [[true, 7000]])
})

test('an answer that there is no lock is not told: the message was refused all the same', async () => {
  const { answer } = refused()
  assert.deepEqual(await answer({ isActive: false }), [])
})

test('an end that WhatsApp tells unasked counts, also while it is asked', async () => {
  const { answers, answer, reports } = refused()
  answers.lock({ isActive: false })
  assert.deepEqual(reports, [])
  assert.deepEqual(await answer({ isActive: false }), [[false, undefined]])
  answers.lock({ isActive: false })
  assert.equal(reports.length, 2)
})
