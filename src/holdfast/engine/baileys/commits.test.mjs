// A commit is reported once, frames wait for it, and callers can await that it is durable.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Commits } from './commits.mjs'

class Socket {
  OPEN = 1
  readyState = 1
  left = []

  send(bytes, done) {
    this.left.push(bytes)
    done?.()
  }

  on() {}
}

function made() {
  const reports = []
  return { reports, commits: new Commits({ report: report => reports.push(report) }) }
}

test('a frame is sent when the commits before it are durable', () => {
  const { commits, reports } = made()
  const socket = new Socket()
  commits.guard(socket)
  const seq = commits.begin({ keys: { session: { a: 'x' } } })
  let sent = 0
  socket.send('frame', () => (sent += 1))
  const order = []
  commits.afterFrames(() => order.push(...socket.left))
  assert.deepEqual([socket.left, sent, order], [[], 1, []])
  commits.committed(seq)
  assert.deepEqual([socket.left, order], [['frame'], ['frame']])
  assert.deepEqual(reports.map(({ r, seq }) => [r, seq]), [['commit', 1]])
})

test('empty fields are left out of a report', () => {
  const { commits, reports } = made()
  commits.begin({ keys: {}, decrypted: [] })
  assert.deepEqual([reports[0].keys, reports[0].decrypted], [undefined, undefined])
})

test('a closed socket fails without waiting for commits', () => {
  const { commits } = made()
  const socket = new Socket()
  commits.guard(socket)
  commits.begin({})
  socket.readyState = 3
  socket.send('late')
  assert.deepEqual(socket.left, ['late'])
})

test('a promise for a commit resolves when it is durable', async () => {
  const { commits } = made()
  const seq = commits.begin({})
  const waiting = commits.whenDurable(seq)
  assert.equal(commits.isOutstanding(seq), true)
  commits.committed(seq)
  await waiting
  assert.equal(commits.isOutstanding(seq), false)
})
