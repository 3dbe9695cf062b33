// The same work as bench/engine.py asks of the bridge, done with bare Baileys and keys in memory: what to compare with.
//
//   node bare_baileys.mjs WASIM_URL CONTROL_URL SESSIONS TEXTS IN_FLIGHT FILE    (run from a folder with node_modules)
//
// The first run pairs and writes FILE; the second logs in with it and measures, without pairing's garbage.

import { existsSync, readFileSync, writeFileSync } from 'node:fs'

for (const name of Object.keys(console)) if (typeof console[name] === 'function') console[name] = () => {}

const { makeWASocket, initAuthCreds, BufferJSON, DisconnectReason } = await import('baileys')
const [url, control, sessions, texts, inFlight, file] = process.argv.slice(2)

const silent = { level: 'silent', fatal() {}, error() {}, warn() {}, info() {}, debug() {}, trace() {}, child: () => silent }
const number = n => String(962780000000 + n)
const rss = () => (globalThis.gc?.(), process.memoryUsage().rss)

async function post(path, body) {
  const answer = await fetch(control + path, { method: 'POST', body: JSON.stringify(body) })
  if (!answer.ok) throw new Error(await answer.text())
}

function memoryKeys(entries = []) {
  const kept = new Map(entries)
  return {
    entries: () => [...kept],
    get: async (type, ids) => Object.fromEntries(ids.map(id => [id, kept.get(type + id)]).filter(([, value]) => value)),
    set: async changes => {
      for (const type in changes) {
        for (const id in changes[type]) {
          if (changes[type][id]) kept.set(type + id, changes[type][id])
          else kept.delete(type + id)
        }
      }
    }
  }
}

function connect(auth, onQr) {
  const sock = makeWASocket({ waWebSocketUrl: url, auth, logger: silent, markOnlineOnConnect: false, emitOwnEvents: false })
  const { promise, resolve } = Promise.withResolvers()
  sock.ev.on('creds.update', update => Object.assign(auth.creds, update))
  sock.ev.on('connection.update', ({ qr, connection, lastDisconnect }) => {
    if (qr) onQr?.(qr)
    if (connection === 'open') resolve(sock)
    if (connection === 'close' && lastDisconnect?.error?.output?.statusCode === DisconnectReason.restartRequired) resolve(null)
  })
  return promise
}

async function pair() {
  const auths = []
  for (let n = 0; n < sessions; n++) {
    const auth = { creds: initAuthCreds(), keys: memoryKeys() }
    await post('/phones', { number: number(n) })
    await connect(auth, qr => post(`/phones/${number(n)}/scan`, { qr }))
    await connect(auth)
    auths.push(auth)
  }
  await new Promise(resolve => setTimeout(resolve, 2000))
  const dumped = auths.map(({ creds, keys }) => ({ creds, keys: keys.entries() }))
  writeFileSync(file, JSON.stringify(dumped, BufferJSON.replacer))
}

if (!existsSync(file)) {
  await pair()
  process.exit(0)
}

const figures = { rssBase: rss() }
const auths = JSON.parse(readFileSync(file), BufferJSON.reviver).map(({ creds, keys }) => ({ creds, keys: memoryKeys(keys) }))
const logins = []
const socks = []
for (const auth of auths) {
  const began = performance.now()
  socks.push(await connect(auth))
  logins.push(performance.now() - began)
}
figures.loginsMs = logins
await new Promise(resolve => setTimeout(resolve, 25000))
figures.rssSessions = rss()

const sock = socks[0]
const waiting = new Map()
sock.ws.on('CB:ack,class:message', ({ attrs }) => waiting.get(attrs.id)?.())
const to = `${number(1)}@s.whatsapp.net`
let count = 0
async function send() {
  const id = `3EB0CC${String(count++).padStart(6, '0')}`
  const acked = new Promise(resolve => waiting.set(id, resolve))
  await sock.sendMessage(to, { text: 'hello ' + id }, { messageId: id })
  await acked
}
await send()
const began = performance.now()
const cpu = process.cpuUsage()
await Promise.all(
  Array.from({ length: inFlight }, async () => {
    while (count < texts) await send()
  })
)
figures.textsPerSecond = (count - 1) / ((performance.now() - began) / 1000)
const { user, system } = process.cpuUsage(cpu)
figures.cpuMsAText = (user + system) / 1000 / (count - 1)
process.stdout.write(JSON.stringify(figures) + '\n')
process.exit(0)
