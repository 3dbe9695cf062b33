import assert from 'node:assert/strict'
import { test } from 'node:test'

import { bounded, boundedDecrypted, EMPTY_PLAINTEXT, mayBeOurs, withStubs } from './bounds.mjs'

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
