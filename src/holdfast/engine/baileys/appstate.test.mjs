import assert from 'node:assert/strict'
import { test } from 'node:test'

import { AppState, VERSIONS } from './appstate.mjs'
import { KeyStore } from './keys.mjs'

const FRIEND = '962700000002@s.whatsapp.net'
const soon = () => new Promise(resolve => setImmediate(() => setImmediate(resolve)))

function fixture({ phones = new Map() } = {}) {
  const commits = []
  const passed = []
  const appState = new AppState({
    commit: commit => commits.push(structuredClone(commit)),
    phonesOf: async lids => lids.filter(lid => phones.has(lid)).map(lid => ({ lid, pn: phones.get(lid) }))
  })
  const ev = { emit: (event, data) => passed.push([event, data]) > 0 }
  appState.listen(ev)
  return { appState, ev, commits, passed }
}

test('a version is committed together with the changes that it brought', async () => {
  const { appState, ev, commits } = fixture()
  appState.hold({ regular_low: '{"version":2}' })
  ev.emit('chats.update', [{ id: FRIEND, archived: true }])
  await soon()
  assert.equal(commits.length, 1)
  assert.deepEqual(commits[0].versions, { regular_low: '{"version":2}' })
  assert.deepEqual(JSON.parse(JSON.stringify(commits[0].changes)), [{ t: 'chat', chat: FRIEND, archived: true }])
})

test('every kind of setting becomes a change', async () => {
  const { ev, commits } = fixture()
  ev.emit('chats.update', [{ id: FRIEND, muteEndTime: -1 }, { id: FRIEND, muteEndTime: null }, { id: FRIEND, pinned: 1_700_000_000_000 }])
  ev.emit('chats.update', [{ id: FRIEND, unreadCount: -1 }, { id: FRIEND, ephemeralExpiration: 86400, ephemeralSettingTimestamp: 1600000000 }])
  ev.emit('contacts.upsert', [{ id: FRIEND, name: 'Salma', lid: '77@lid' }])
  ev.emit('labels.edit', { id: 3, name: 'VIP', color: 4 })
  ev.emit('labels.edit', { id: '3', name: '', deleted: true })
  ev.emit('labels.association', { type: 'add', association: { chatId: FRIEND, labelId: '3' } })
  ev.emit('messages.update', [{ key: { remoteJid: FRIEND, id: '3A1' }, update: { starred: true } }])
  await soon()
  assert.deepEqual(JSON.parse(JSON.stringify(commits.flatMap(each => each.changes))), [
    { t: 'chat', chat: FRIEND, mutedUntilS: -1 },
    { t: 'chat', chat: FRIEND, mutedUntilS: 0 },
    { t: 'chat', chat: FRIEND, pinnedAtS: 1_700_000_000 },
    { t: 'chat', chat: FRIEND, unread: true },
    { t: 'chat', chat: FRIEND, disappearingS: 86400, timerSetAtS: 1600000000 },
    { t: 'contact', chat: FRIEND, lid: '77@lid', savedName: 'Salma' },
    { t: 'label', label: '3', name: 'VIP', color: 4 },
    { t: 'label', label: '3' },
    { t: 'labelled', label: '3', chat: FRIEND, on: true },
    { t: 'starred', chat: FRIEND, whatsappId: '3A1', on: true }
  ])
})

test('what a new message changes in a chat is not a setting', async () => {
  const { ev, commits } = fixture()
  ev.emit('chats.update', [{ id: FRIEND, unreadCount: 1, conversationTimestamp: 5, messages: [{}] }])
  await soon()
  assert.deepEqual(commits, [])
})

test('events that nobody else reads do not stay in a buffer of Baileys', () => {
  const { ev, passed } = fixture()
  ev.emit('chats.update', [{ id: FRIEND, archived: true }])
  ev.emit('creds.update', { a: 1 })
  assert.deepEqual(passed, [['creds.update', { a: 1 }]])
})

test('a chat under a hidden id is named by its phone number where that is known', async () => {
  const { ev, commits } = fixture({ phones: new Map([['77@lid', '962700000002:0@s.whatsapp.net']]) })
  ev.emit('chats.update', [{ id: '77@lid', archived: true }, { id: '88@lid', archived: true }])
  await soon()
  assert.deepEqual(commits[0].changes.map(({ chat }) => chat), [FRIEND, '88@lid'])
})

test('many changes become several commits, and the version is in the last', async () => {
  const { appState, ev, commits } = fixture()
  appState.hold({ critical_unblock_low: 'v' })
  ev.emit('contacts.upsert', Array.from({ length: 1200 }, (_, n) => ({ id: `9627${n}@s.whatsapp.net`, name: 'x' })))
  await soon()
  assert.deepEqual(commits.map(({ changes, versions }) => [changes.length, Object.keys(versions)]), [
    [500, []],
    [500, []],
    [200, ['critical_unblock_low']]
  ])
})

test('the store commits a version only when its changes are there, and reads it back meanwhile', async () => {
  const commits = []
  const held = []
  const store = new KeyStore({
    ask: async () => assert.fail('it is in memory'),
    commit: changes => commits.push(changes),
    isOutstanding: () => true,
    hold: versions => held.push(versions),
    json: { stringify: value => JSON.stringify(value), parse: text => JSON.parse(text) },
    limit: 1
  })
  store.set({ [VERSIONS]: { regular: { version: 1 } } })
  assert.deepEqual([commits, held], [[], [{ regular: '{"version":1}' }]].map((each, n) => (n ? each.map(each => Object.assign(Object.create(null), each)) : each)))
  assert.deepEqual((await store.get(VERSIONS, ['regular'])).regular, { version: 1 })
  store.commitVersions(held[0], [{ t: 'chat' }])
  assert.deepEqual(Object.keys(commits[0].keys), [VERSIONS])
})
