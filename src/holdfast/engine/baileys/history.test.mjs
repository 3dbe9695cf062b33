import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deflateSync } from 'node:zlib'

import { proto } from 'baileys'

import { History } from './history.mjs'
import { BadHistory, inflated, readHistory } from './history_stream.mjs'
import { storePrivacyTokens } from './privacytokens.mjs'

const FRIEND = '962700000002@s.whatsapp.net'
const GROUP = '1203630000@g.us'
const { RECENT, FULL, INITIAL_BOOTSTRAP, ON_DEMAND } = proto.HistorySync.HistorySyncType

const text = (n, chat = FRIEND) => ({
  message: { key: { remoteJid: chat, id: `3A${n}`, fromMe: false }, message: { conversation: `text ${n}` }, messageTimestamp: n }
})
const encoded = history => Buffer.from(proto.HistorySync.encode(proto.HistorySync.fromObject(history)).finish())

async function all(chunks) {
  const found = []
  for await (const each of readHistory(chunks)) found.push(each)
  return found
}

async function* inPieces(bytes, size) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

const SOME = {
  syncType: RECENT,
  progress: 40,
  conversations: [
    { id: FRIEND, messages: [text(1), text(2)], ephemeralExpiration: 86400, ephemeralSettingTimestamp: 1600000000, lidJid: '77@lid' },
    { id: GROUP, name: 'Flowers', messages: [text(3, GROUP)] }
  ],
  pushnames: [{ id: FRIEND, pushname: 'Salma' }],
  phoneNumberToLidMappings: [{ pnJid: FRIEND, lidJid: '77@lid' }]
}

test('a history is read the same, however its bytes are divided', async () => {
  for (const size of [1, 7, 100_000]) {
    const found = await all(inPieces(encoded(SOME), size))
    assert.deepEqual(found.map(each => Object.keys(each)[0]), ['message', 'message', 'conversation', 'message', 'conversation', 'pushName', 'mapping'])
    assert.deepEqual(found.flatMap(({ message }) => (message ? [message.key.id] : [])), ['3A1', '3A2', '3A3'])
    assert.equal(found[4].conversation.name, 'Flowers')
  }
})

test('a history that is cut off or no protobuf is an error, not an endless wait', async () => {
  const whole = encoded(SOME)
  for (const bytes of [whole.subarray(0, 20), Buffer.from([0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]), Buffer.alloc(20, 0xff), Buffer.from([0x12, 0x05, 0x12, 0x70])]) {
    await assert.rejects(all(inPieces(bytes, 5)), BadHistory)
  }
})

test('bytes that do not inflate are an error', async () => {
  await assert.rejects(all(inflated(Buffer.from('no zlib'))))
})

test('a message that can not be decoded, or is too long, is left out', async () => {
  const long = encoded({ conversations: [{ id: FRIEND, messages: [{ message: { key: { id: 'x' }, message: { conversation: 'y'.repeat(300_000) } } }, text(2)] }] })
  assert.deepEqual((await all(inPieces(long, 1000))).flatMap(({ message }) => (message ? [message.key.id] : [])), ['3A2'])
})

function fixture({ wanted = 'recent', ledger = { parts: [], lost: 0 }, durable = async () => {}, read } = {}) {
  let kept = ledger
  const commits = []
  const tokens = []
  const learned = []
  const history = new History({
    wanted,
    hosts: () => ({ read }),
    inbound: { fromHistory: async ({ key, message }) => ({ whatsappId: key.id, chat: key.remoteJid, text: message.conversation }) },
    commit: content => {
      commits.push({ history: [], changes: [], ...content })
      return commits.length
    },
    durable,
    ledger: { get: () => kept, set: given => (kept = given) },
    learn: async mappings => learned.push(...mappings),
    tokens: async conversations => tokens.push(...conversations)
  })
  return { history, commits, learned, tokens, ledger: () => kept }
}

const notice = (history, more = {}) => ({
  syncType: history.syncType,
  progress: history.progress,
  initialHistBootstrapInlinePayload: deflateSync(encoded(history)),
  ...more
})

test('messages, names, timers and hidden ids of a history are reported, and Baileys gets an empty one', async () => {
  const { history, commits, learned } = fixture()
  const given = notice(SOME)
  assert.equal(history.take(given), true)
  await history.settled()
  assert.deepEqual(commits.flatMap(each => each.history.map(({ text }) => text)), ['text 1', 'text 2', 'text 3'])
  assert.deepEqual(commits.find(({ groups }) => groups).groups, { [GROUP]: 'Flowers' })
  assert.deepEqual(commits.flatMap(each => each.changes), [
    { t: 'chat', chat: FRIEND, disappearingS: 86400, timerSetAtS: 1600000000 },
    { t: 'person', chat: FRIEND, pushName: 'Salma' }
  ])
  assert.deepEqual(learned.at(-1), { lid: '77@lid', pn: FRIEND })
  assert.deepEqual(commits.at(-1).historyProgress, { percent: 40, reading: 0, retrying: 0, lost: 0 })
  assert.ok(given.initialHistBootstrapInlinePayload.length < 20)
})

for (const [wanted, syncType, kept] of [
  ['recent', INITIAL_BOOTSTRAP, 3],
  ['recent', FULL, 0],
  ['full', FULL, 3],
  ['none', ON_DEMAND, 3]
]) {
  test(`history: ${wanted} keeps ${kept ? 'the messages' : 'no messages'} of type ${syncType}, and what people are called`, async () => {
    const { history, commits } = fixture({ wanted })
    history.take(notice({ ...SOME, syncType }))
    await history.settled()
    assert.equal(commits.flatMap(each => each.history).length, kept)
    assert.equal(commits.flatMap(each => each.changes).length, 2)
  })
}

for (const [syncType, processed] of [
  [INITIAL_BOOTSTRAP, true],
  [RECENT, true],
  [FULL, false]
]) {
  test(`history: none leaves a history of type ${syncType} to Baileys, unchanged`, () => {
    const { history, commits } = fixture({ wanted: 'none' })
    const given = notice({ ...SOME, syncType })
    const before = Buffer.from(given.initialHistBootstrapInlinePayload)
    assert.equal(history.take(given), processed)
    assert.equal(history.take({ syncType }), processed)
    assert.deepEqual(given.initialHistBootstrapInlinePayload, before)
    assert.deepEqual(commits, [])
  })
}

test('privacy tokens of a history are passed on', async () => {
  const { history, tokens } = fixture()
  const conversations = [{ id: FRIEND, tcToken: Buffer.from('abc'), tcTokenTimestamp: 7 }, { id: GROUP }]
  history.take(notice({ syncType: RECENT, conversations }))
  await history.settled()
  assert.deepEqual(tokens.map(({ id, tcToken, tcTokenTimestamp }) => [id, String(tcToken), Number(tcTokenTimestamp)]), [[FRIEND, 'abc', 7]])
})

test('a privacy token is stored as Baileys stores it: by hidden id, unless a newer one is there', async () => {
  const stored = { '77@lid': { token: Buffer.from('old'), timestamp: '5', senderTimestamp: 4 }, '88@lid': { token: Buffer.from('new'), timestamp: '9' } }
  const keys = {
    get: async (type, ids) => Object.fromEntries(ids.filter(id => stored[id]).map(id => [id, stored[id]])),
    set: async ({ tctoken }) => Object.assign(stored, tctoken)
  }
  const sock = { authState: { keys }, signalRepository: { lidMapping: { getLIDForPN: async () => '77@lid' } } }
  const token = (id, at) => ({ id, tcToken: Buffer.from('abc'), tcTokenTimestamp: at })
  await storePrivacyTokens([token(FRIEND, 7), token('88@lid', 8), token('99@lid', undefined)], sock)
  assert.deepEqual(stored['77@lid'], { token: Buffer.from('abc'), timestamp: '7', senderTimestamp: 4 })
  assert.equal(stored['88@lid'].timestamp, '9')
  assert.equal(stored['99@lid'], undefined)
  assert.deepEqual(JSON.parse(stored.__index.token), ['77@lid'])
})

test('many messages become commits of ten, each after the one before is durable', async () => {
  const { history, commits } = fixture()
  const durable = []
  history.durable = async seq => durable.push([seq, commits.length])
  history.take(notice({ syncType: RECENT, conversations: [{ id: FRIEND, messages: Array.from({ length: 24 }, (_, n) => text(n)) }] }))
  await history.settled()
  assert.deepEqual(commits.map(each => each.history.length), [0, 10, 10, 4, 0])
  assert.deepEqual(durable.slice(0, 2), [[2, 2], [3, 3]])
})

test('a link that closes does not keep the history of other links waiting', async () => {
  const first = fixture()
  first.history.durable = () => new Promise(() => {})
  first.history.take(notice(SOME))
  await new Promise(resolve => setTimeout(resolve, 20))
  first.history.close()
  const second = fixture()
  second.history.take(notice(SOME))
  await second.history.settled()
})

test('Baileys asks whether there will be a history: yes', () => {
  assert.equal(fixture().history.take({ syncType: RECENT }), true)
})

test('a request for older messages is answered when they are stored', async () => {
  const { history } = fixture({ wanted: 'none' })
  const sock = { fetchMessageHistory: async (count, key, atMs) => (assert.deepEqual([count, key.id, atMs], [10, '3A9', 9000]), 'request-1') }
  const asked = history.ask(sock, { chat: FRIEND, oldest: { id: '3A9', fromMe: false, atS: 9 }, count: 10 })
  await new Promise(setImmediate)
  history.take(notice({ ...SOME, syncType: ON_DEMAND }, { peerDataRequestSessionId: 'request-1' }))
  assert.equal(await asked, 3)
})

test('a part that is being read when the link ends is read again at the next link, and no more than three times', async () => {
  const first = fixture({ durable: () => new Promise(() => {}) })
  first.history.take(notice(SOME))
  while (first.commits.length < 2) await new Promise(setImmediate) // announced, and committed, but never durable
  first.history.close()
  await first.history.settled()
  assert.deepEqual(first.ledger().parts.map(({ attempts }) => attempts), [0])
  const second = fixture({ ledger: first.ledger() })
  second.history.resume()
  await second.history.settled()
  assert.deepEqual(second.commits.flatMap(each => each.history.map(({ text }) => text)), ['text 1', 'text 2', 'text 3'])
  assert.deepEqual(second.ledger(), { percent: 40, parts: [], lost: 0 })
  const last = fixture({ ledger: { ...first.ledger(), parts: [{ ...first.ledger().parts[0], attempts: 2 }] } })
  last.history.resume()
  assert.deepEqual(last.commits.map(({ historyProgress }) => historyProgress), [{ percent: 40, reading: 0, retrying: 0, lost: 1 }])
})

test('a part that can not be fetched is reported as failed, and as lost after three attempts', async () => {
  let ledger
  for (const [retrying, lost] of [[1, 0], [1, 0], [0, 1]]) {
    const { history, commits, ledger: now } = fixture({ ledger, read: async () => { throw new Error('no route to the host') } })
    if (ledger) history.resume()
    else history.take({ ...SOME, directPath: '/history', fileSha256: Buffer.from('x'), progress: 100 })
    assert.equal(commits[0].historyProgress.reading, 1)
    await history.settled()
    assert.deepEqual(commits.at(-1).historyProgress, { percent: 100, reading: 0, retrying, lost })
    ledger = now()
  }
})

test('a part that can not be decoded is lost at once, whatever came before', async () => {
  const { history, commits } = fixture({ ledger: { parts: [], lost: 2, percent: 40 } })
  history.take({ syncType: RECENT, initialHistBootstrapInlinePayload: deflateSync(encoded(SOME).subarray(0, 20)) })
  await history.settled()
  assert.deepEqual(commits.at(-1).historyProgress, { percent: 40, reading: 0, retrying: 0, lost: 3 })
})

test('a part that is too large to be kept is lost when the link ends', async () => {
  const first = fixture({ durable: () => new Promise(() => {}) })
  const pushnames = Array.from({ length: 5000 }, (_, n) => ({ id: `${n}@s.whatsapp.net`, pushname: `${Math.sin(n)}${Math.cos(n)}` }))
  first.history.take(notice({ syncType: RECENT, pushnames }))
  first.history.close()
  const second = fixture({ ledger: first.ledger() })
  second.history.resume()
  assert.deepEqual(second.history.progress, { percent: undefined, reading: 0, retrying: 0, lost: 1 })
})

test('thousands of groups without messages are committed in batches', async () => {
  const { history, commits } = fixture()
  history.take(notice({ syncType: RECENT, conversations: Array.from({ length: 3000 }, (_, n) => ({ id: `${n}@g.us`, name: `Group ${n}` })) }))
  await history.settled()
  const sizes = commits.map(({ groups }) => Object.keys(groups ?? {}).length)
  assert.equal(sizes.reduce((total, size) => total + size), 3000)
  assert.ok(Math.max(...sizes) <= 200)
})

test('parts are kept up to a total size, whatever makes them large', async () => {
  const { history, ledger } = fixture({ durable: () => new Promise(() => {}), read: () => new Promise(() => {}) })
  for (let n = 0; n < 100; n++) {
    history.take({ syncType: RECENT, directPath: '/x'.repeat(25_000), fileSha256: Buffer.from(`small ${n}`) })
    history.take({ syncType: RECENT, directPath: '/x'.repeat(500_000), fileSha256: Buffer.from(`large ${n}`) })
  }
  const { parts } = ledger()
  assert.equal(parts.length, 200)
  assert.ok(JSON.stringify(parts).length < 2_000_000)
  history.close()
})
