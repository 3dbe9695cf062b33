// Bare Baileys as its own example runs it: state in files (useMultiFileAuthState), everything else at its defaults, and a
// new socket after each close that is no logout. Does what `bench/bare.py` asks, a JSON object a line.
//
//   node bare.mjs BAILEYS_DIR WASIM_URL FOLDER      (BAILEYS_DIR holds node_modules, FOLDER a folder for each session)

import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

for (const name of Object.keys(console)) if (typeof console[name] === 'function') console[name] = () => {} // it prints keys

const [baileysDir, url, folder] = process.argv.slice(2)
const { resolve } = createRequire(join(baileysDir, 'package.json'))
const { DisconnectReason, makeCacheableSignalKeyStore, makeWASocket, useMultiFileAuthState } = await import(
  pathToFileURL(resolve('baileys'))
)

const logger = { level: 'silent', fatal() {}, error() {}, warn() {}, info() {}, debug() {}, trace() {}, child: () => logger }
const tell = report => process.stdout.write(JSON.stringify(report) + '\n')
const sessions = new Map()

class Session {
  constructor(name) {
    this.name = name
    this.wanted = true
    this.acked = new Map()
    this.opened = Promise.withResolvers()
  }

  async start() {
    const { state, saveCreds } = await useMultiFileAuthState(join(folder, this.name))
    this.sock = makeWASocket({
      waWebSocketUrl: url,
      logger,
      auth: { creds: state.creds, keys: makeCacheableSignalKeyStore(state.keys, logger) },
      getMessage: async () => undefined
    })
    this.sock.ws.on('CB:ack,class:message', ({ attrs }) => this.acked.get(attrs.id)?.())
    this.sock.ev.process(async events => {
      if (events['connection.update']) this.update(events['connection.update'])
      if (events['creds.update']) await saveCreds()
    })
  }

  update({ qr, connection, lastDisconnect }) {
    if (qr) tell({ qr, name: this.name })
    if (connection === 'open') this.opened.resolve()
    if (connection !== 'close' || !this.wanted) return
    if (lastDisconnect?.error?.output?.statusCode !== DisconnectReason.loggedOut) this.start()
  }
}

const does = {
  // From reading the state to `open`.
  async open({ name }) {
    const session = new Session(name)
    sessions.set(name, session)
    const began = performance.now()
    await session.start()
    await session.opened.promise
    return { ms: performance.now() - began }
  },

  async close({ name }) {
    const session = sessions.get(name)
    session.wanted = false
    await session.sock.end(undefined)
    sessions.delete(name)
  },

  // Baileys says that it is sent when it is written.
  async write({ name, to, text }) {
    await sessions.get(name).sock.sendMessage(`${to}@s.whatsapp.net`, { text })
  },

  // Until WhatsApp's ack.
  async send({ name, to, text, whatsappId }) {
    const { sock, acked } = sessions.get(name)
    const began = performance.now()
    const ack = new Promise(done => acked.set(whatsappId, done))
    await sock.sendMessage(`${to}@s.whatsapp.net`, { text }, { messageId: whatsappId })
    await ack
    acked.delete(whatsappId)
    return { ms: performance.now() - began }
  },

  // Lanes side by side, one text at a time in each.
  async load({ lanes, texts }) {
    const tookMs = []
    const began = performance.now()
    await Promise.all(
      lanes.map(async ([name, to]) => {
        for (let n = 0; n < texts; n += 1) {
          const whatsappId = `3EB0${randomBytes(9).toString('hex').toUpperCase()}`
          tookMs.push((await does.send({ name, to, text: `text ${n}`, whatsappId })).ms)
        }
      })
    )
    return { tookMs, lastedMs: performance.now() - began }
  }
}

process.on('unhandledRejection', () => {}) // Baileys leaves some behind at each lost link

const lines = createInterface({ input: process.stdin })
lines.on('line', async line => {
  const { id, what, ...args } = JSON.parse(line)
  try {
    tell({ id, ...(await does[what](args)) })
  } catch (error) {
    tell({ id, error: String(error) })
  }
})
lines.on('close', () => process.exit(0))
tell({ ready: true })
