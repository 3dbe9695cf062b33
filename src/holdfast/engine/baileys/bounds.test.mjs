import assert from 'node:assert/strict'
import { test } from 'node:test'

import { bounded, boundedDecrypted, EMPTY_PLAINTEXT, mayBeOurs, shortened, withStubs } from './bounds.mjs'

test('values within their bounds stay unchanged', () => {
  const message = { text: 'x', sentAtS: 1, fromMe: false, content: { mentions: ['a'], location: { latitude: 1.5 } } }
  assert.deepEqual(bounded(message), message)
})

test('lists, texts and nesting are truncated', () => {
  let deep = 1
  for (let n = 0; n < 100; n += 1) deep = [deep]
  assert.ok(JSON.stringify(bounded(deep)).length < 50)
  assert.equal(bounded(Array(5000).fill(1)).length, 1024)
  assert.equal(bounded('x'.repeat(100_000)).length, 65_536)
})

test('a long plaintext is kept only if it is from our own devices', () => {
  const record = { ciphertextSha256: 'ab', plaintext: 'A'.repeat(200_000) }
  assert.equal(boundedDecrypted(record).plaintext, EMPTY_PLAINTEXT)
  assert.equal(boundedDecrypted(record, { isPeer: true }).plaintext, record.plaintext)
})

test('a commit that is too long keeps its keys and reports what is missing', () => {
  const message = { whatsappId: '3A', chat: 'c', sender: 's', sentAtS: 1, fromMe: false, type: 'text', text: 'x' }
  const commit = { seq: 1, keys: { session: { a: '1' } }, decrypted: [{ ciphertextSha256: 'ab', plaintext: 'AAAA', message }] }
  const { keys, decrypted } = withStubs(commit)
  assert.deepEqual(keys, commit.keys)
  assert.equal(decrypted[0].message.type, 'unknown')
  assert.equal(decrypted[0].message.content.notStored.ciphertextSha256, 'ab')
})

test('ids that Holdfast creates are short and plain', () => {
  for (const id of ['3EB0123456789ABCDEF0', 'a~b']) assert.ok(mayBeOurs(id))
  for (const id of ['', undefined, 'a b', 'x'.repeat(129), 'a\0', 'é']) assert.ok(!mayBeOurs(id))
})

test('a receipt or notification that is too long is cut; keys and answers are not', () => {
  const receipt = { r: 'receipt', kind: 'read', chat: 'a@s.whatsapp.net', whatsappIds: Array.from({ length: 800_000 }, (_, n) => `3EB0${n}`) }
  assert.deepEqual(shortened(receipt), { ...receipt, whatsappIds: receipt.whatsappIds.slice(0, 256) })
  const change = { noticeId: '1 0', kind: 'subject', actorName: '\u0001'.repeat(3_000_000), participants: Array(2000).fill({ jid: '1@lid' }) }
  const commit = { r: 'commit', seq: 7, groupChanges: Array(16).fill(change) }
  assert.ok(JSON.stringify(shortened(commit)).length < 1_000_000)
  assert.equal(shortened(commit).seq, 7)
  assert.equal(shortened({ ...commit, keys: { session: {} } }), null)
  assert.equal(shortened({ ...commit, credentials: '{}' }), null)
  assert.equal(shortened({ r: 'query-answered', result: [] }), null)
})
