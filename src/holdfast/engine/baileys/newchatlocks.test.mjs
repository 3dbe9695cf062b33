import assert from 'node:assert/strict'
import { test } from 'node:test'

import { NewChatLocks } from './newchatlocks.mjs'

const ENDS = new Date(7_000_000)
const settled = () => new Promise(setImmediate)

/** Locks of an account, WhatsApp's answer to the query about them, and what was reported. */
function refused(error) {
  const reports = []
  const asked = []
  const query = () => {
    asked.push(Promise.withResolvers())
    return asked.at(-1).promise
  }
  const locks = new NewChatLocks({
    sock: { fetchAccountReachoutTimelock: query, fetchNewChatMessageCap: query },
    report: ({ r, lock, active, untilS }) => reports.push([r, lock, active, untilS]),
    askAgainMs: [1]
  })
  locks.refused(error)
  return { locks, asked, reports }
}

/** As Baileys does: its answer comes as an event, too. */
async function answer({ locks, asked, reports }, state) {
  locks.reachOutLock(state)
  asked[0].resolve(state)
  await settled()
  return reports
}

test('the end of the reach-out lock in WhatsApp’s answer is reported', async () => {
  const reports = await answer(refused('463'), { isActive: true, timeEnforcementEnds: ENDS })
  assert.deepEqual(reports, [['new-chats-locked', 'reach-out-lock', true, 7000]])
})

test('an answer that there is no lock is not reported: the message was refused nevertheless', async () => {
  assert.deepEqual(await answer(refused('463'), { isActive: false }), [])
})

test('a notification of the end counts, even while a query is pending', async () => {
  const fixture = refused('463')
  fixture.locks.reachOutLock({ isActive: false })
  assert.deepEqual(fixture.reports, [])
  assert.deepEqual(await answer(fixture, { isActive: false }), [['new-chats-locked', 'reach-out-lock', false, undefined]])
  fixture.locks.reachOutLock({ isActive: false })
  assert.equal(fixture.reports.length, 2)
})

test('the end of the cycle is reported after a 475, whatever the quota’s state', async () => {
  for (const status of ['CAPPED', 'NONE']) {
    const { asked, reports } = refused('475')
    asked[0].resolve({ capping_status: status, total_quota: 5, used_quota: 5, cycle_end_timestamp: '7000' })
    await settled()
    assert.deepEqual(reports, [['new-chats-locked', 'new-chat-quota', true, 7000]])
  }
})

test('a quota without an end of its cycle is not reported', async () => {
  const { asked, reports } = refused('475')
  asked[0].resolve({ total_quota: -1, used_quota: 0, capping_status: 'NONE' })
  await settled()
  assert.deepEqual(reports, [])
})

test('notifications about the quota are reported', () => {
  const { locks, reports } = refused('400')
  locks.newChatQuota({ capping_status: 'CAPPED', cycle_end_timestamp: '7000' })
  locks.newChatQuota({ capping_status: 'FIRST_WARNING', cycle_end_timestamp: '7000' })
  assert.deepEqual(reports.map(report => report.slice(1)), [
    ['new-chat-quota', true, 7000],
    ['new-chat-quota', false, undefined]
  ])
})

test('a failed query is repeated, and only one is pending at a time', async () => {
  const { locks, asked, reports } = refused('475')
  locks.refused('475')
  assert.equal(asked.length, 1)
  asked[0].reject(new Error('rate-overlimit'))
  while (asked.length < 2) await settled()
  asked[1].resolve({ cycle_end_timestamp: '7000' })
  await settled()
  assert.equal(reports.length, 1)
})
