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

test('a receipt in a group counts only from its members, where they are known', () => {
  const reports = []
  const members = { '1@g.us': new Set(['77']) }
  const answers = new Answers({
    sock: {},
    creds: { me: { id: '5:1@s.whatsapp.net' } },
    recipients: {},
    store: { peek: () => undefined },
    groups: { hasMember: (jid, person) => members[jid]?.has(person.split('@')[0]) },
    report: ({ chat, participant }) => reports.push([chat, participant])
  })
  const attrs = { id: '3EB0', t: '1700000000' }
  assert.equal(answers.receipt({ ...attrs, from: '1@g.us', participant: '88@lid' }), false)
  assert.equal(answers.receipt({ ...attrs, from: '1@g.us', participant: '77@lid' }), true)
  assert.equal(answers.receipt({ ...attrs, from: '2@g.us', participant: '88@lid' }), true)
  assert.deepEqual(reports, [['1@g.us', '77@lid'], ['2@g.us', '88@lid']])
})

test('ids that Holdfast can’t have made are left out of a receipt, and an ack of one is none', () => {
  const reports = []
  const answers = new Answers({ sock: {}, creds: {}, recipients: {}, store: { peek: () => undefined }, report: each => reports.push(each) })
  const items = ['3EB0', 'x'.repeat(1000), 'a\0b', ''].map(id => ({ attrs: { id } }))
  answers.receipt({ id: '\ud800', from: '1@s.whatsapp.net' }, [{ content: items }])
  answers.ack({ id: 'x'.repeat(1000), from: '1@s.whatsapp.net' })
  assert.deepEqual(reports.map(({ whatsappIds }) => whatsappIds), [['3EB0']])
})
