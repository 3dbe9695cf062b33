import assert from 'node:assert/strict'
import { test } from 'node:test'

import { DECRYPTED, KeyStore } from './keys.mjs'
import { writePreKeysThrough } from './repository.mjs'

// Removes the prototype, because objects with arbitrary keys have none.
const same = (actual, expected) => assert.deepEqual(structuredClone(actual), expected)

function fixture(limit) {
  const stored = {}
  const asked = []
  const commits = []
  const outstanding = new Set()
  const store = new KeyStore({
    ask: async (type, ids) => {
      asked.push([type, ids])
      return Object.fromEntries(ids.filter(id => stored[type]?.[id] !== undefined).map(id => [id, stored[type][id]]))
    },
    commit: changes => {
      commits.push(changes)
      outstanding.add(commits.length)
      return commits.length
    },
    isOutstanding: seq => outstanding.has(seq),
    json: { stringify: value => JSON.stringify(value), parse: text => JSON.parse(text) },
    ...(limit && { limit })
  })
  const committed = seq => {
    outstanding.delete(seq)
    store.committed(seq)
  }
  return { store, stored, asked, commits, committed }
}

test('a value is requested once, even if there is none', async () => {
  const { store, stored, asked } = fixture()
  stored.session = { a: '{"n":1}' }
  same(await store.get('session', ['a', 'b']), { a: { n: 1 } })
  same(await store.get('session', ['a', 'b']), { a: { n: 1 } })
  same(asked, [['session', ['a', 'b']]])
})

test('a written value is read back at once, without a request', async () => {
  const { store, asked, commits } = fixture()
  store.set({ session: { a: { n: 1 }, b: null } })
  same(await store.get('session', ['a', 'b']), { a: { n: 1 } })
  same(asked, [])
  same(commits, [{ keys: { session: { a: '{"n":1}', b: null } }, decrypted: [] }])
})

test('a reader can’t change what the next one reads', async () => {
  const { store } = fixture()
  store.set({ session: { a: { n: 1 } } })
  const { a } = await store.get('session', ['a'])
  a.n = 2
  same(await store.get('session', ['a']), { a: { n: 1 } })
})

test('a write wins over an older value that arrives later', async () => {
  const { store, stored } = fixture()
  stored.session = { a: '{"n":1}' }
  const reading = store.get('session', ['a'])
  store.set({ session: { a: { n: 2 } } })
  same(await reading, { a: { n: 2 } })
})

test('a decrypted message is in the same commit as the keys of its transaction', () => {
  const { store, commits } = fixture()
  store.set({ session: { a: { n: 1 } }, [DECRYPTED]: { ff: { plaintext: 'x' } } })
  same(commits, [{ keys: { session: { a: '{"n":1}' } }, decrypted: [{ plaintext: 'x' }] }])
})

test('without changes there is no commit', () => {
  const { store, commits } = fixture()
  store.set({})
  store.set({ session: {} })
  same(commits, [])
})

test('pre-keys are kept until they are durable, and no longer', async () => {
  const { store, asked, committed } = fixture()
  store.set({ 'pre-key': { 1: 'one', 2: 'two' } })
  same(await store.get('pre-key', ['1']), { 1: 'one' })
  same(asked, [])
  committed(1)
  assert.equal(store.size, 0)
  await store.get('pre-key', ['1'])
  same(asked, [['pre-key', ['1']]])
  assert.equal(store.size, 0)
})

test('memory is bounded, and values that are not durable yet stay', async () => {
  const { store, asked, committed } = fixture(100)
  store.set({ session: { a: 'x'.repeat(80) } })
  store.set({ session: { b: 'x'.repeat(80) } })
  await store.get('session', ['a', 'b'])
  same(asked, [])
  committed(1)
  committed(2)
  assert.ok(store.size <= 100)
  await store.get('session', ['b'])
  same(asked, [])
  await store.get('session', ['a'])
  same(asked, [['session', ['a']]])
})

test('a new pre-key is committed before the transaction that created it ends, and once', async () => {
  const { store, commits } = fixture()
  const inTransaction = {}
  const keys = { set: async changes => Object.assign(inTransaction, changes) }
  writePreKeysThrough(keys, store)
  await keys.set({ 'pre-key': { 7: 'seven', 6: null }, session: { a: 'x' } })
  same(commits, [{ keys: { 'pre-key': { 7: '"seven"' } }, decrypted: [] }])
  store.set({ 'pre-key': { 7: 'seven' } }) // what Baileys' transaction does at its end
  assert.equal(commits.length, 1)
  same(inTransaction, { 'pre-key': { 7: 'seven', 6: null }, session: { a: 'x' } })
})

test('an id is never taken for a member that all objects have', async () => {
  const { store, stored, commits } = fixture()
  const ids = ['__proto__', 'constructor', 'toString']
  const before = await store.get('lid-mapping', ids)
  assert.deepEqual(ids.map(id => before[id]), [undefined, undefined, undefined])
  store.set({ session: { ['__proto__']: { n: 1 } } })
  assert.equal(JSON.stringify(commits[0].keys), '{"session":{"__proto__":"{\\"n\\":1}"}}')
  stored['device-list'] = { ['__proto__']: '["0"]' }
  same((await store.get('device-list', ['__proto__']))['__proto__'], ['0'])
})
