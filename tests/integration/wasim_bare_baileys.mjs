// Links two bare Baileys to a simulated WhatsApp, sends texts between them, and prints what happened as JSON lines.
//
//   node wasim_bare_baileys.mjs BAILEYS_DIR WASIM_URL CONTROL_URL [NUMBER_A NUMBER_B]
//
// BAILEYS_DIR holds node_modules. Nothing of Baileys is patched; only its documented options are used.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { join } from 'node:path'

const [dir, url, control, numberA = '962302', numberB = '962303'] = process.argv.slice(2)
for (const name of ['log', 'info', 'warn', 'error', 'debug']) console[name] = () => {} // libsignal prints keys

const require = createRequire(join(dir, 'package.json'))
const baileys = await import(pathToFileURL(require.resolve('baileys')))
const { makeWASocket, initAuthCreds } = baileys
const pino = (await import(pathToFileURL(require.resolve('pino')))).default
const logger = pino({ level: process.env.BAILEYS_LOG ?? 'silent' }, pino.destination(2))

const say = value => process.stdout.write(JSON.stringify(value) + '\n')

const post = async (path, body) => {
  const answer = await fetch(control + path, { method: 'POST', body: JSON.stringify(body) })
  if (!answer.ok) throw new Error(`${path}: ${await answer.text()}`)
  return answer.json()
}

function memoryKeys() {
  const data = new Map()
  return {
    data,
    get: async (type, ids) => {
      const found = {}
      for (const id of ids) {
        const value = data.get(`${type}/${id}`)
        if (value !== undefined) found[id] = value
      }
      return found
    },
    set: async update => {
      for (const [type, values] of Object.entries(update)) {
        for (const [id, value] of Object.entries(values)) {
          if (value === null) data.delete(`${type}/${id}`)
          else data.set(`${type}/${id}`, value)
        }
      }
    }
  }
}

class Session {
  constructor(number) {
    this.number = number
    this.creds = initAuthCreds()
    this.keys = memoryKeys()
    this.received = []
    this.updates = []
    this.acks = []
    this.waiting = []
  }

  async open() {
    const opened = Date.now()
    for (;;) {
      const outcome = await this.connect()
      if (outcome === 'open') return Date.now() - opened
      if (outcome !== 515) throw new Error(`${this.number}: closed with ${outcome}`)
    }
  }

  connect() {
    this.sock = makeWASocket({
      auth: { creds: this.creds, keys: this.keys },
      waWebSocketUrl: url,
      logger,
      getMessage: async () => undefined
    })
    const { ev, ws } = this.sock
    ev.on('creds.update', update => Object.assign(this.creds, update))
    ws.on('CB:ack,class:message', node => this.note('acks', node.attrs))
    ev.on('messages.upsert', ({ messages, type }) => {
      for (const message of messages) this.note('received', { ...summary(message), type })
    })
    ev.on('messages.update', updates => {
      for (const { key, update } of updates) this.note('updates', { id: key.id, status: update.status })
    })
    return new Promise((resolve, reject) => {
      ev.on('connection.update', update => {
        if (update.qr) post(`/phones/${this.number}/scan`, { qr: update.qr }).catch(reject)
        if (update.connection === 'open') resolve('open')
        if (update.connection === 'close') resolve(update.lastDisconnect?.error?.output?.statusCode)
      })
    })
  }

  note(list, value) {
    this[list].push(value)
    this.waiting = this.waiting.filter(check => !check())
  }

  until(what, condition, ms = 10_000) {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`${this.number}: waited ${ms} ms for ${what}`)), ms)
      const check = () => {
        if (!condition(this)) return false
        clearTimeout(late)
        resolve()
        return true
      }
      if (!check()) this.waiting.push(check)
    })
  }
}

const summary = ({ key, message }) => ({
  id: key.id,
  from: key.remoteJid,
  alt: key.remoteJidAlt,
  fromMe: key.fromMe,
  text: message?.conversation ?? message?.extendedTextMessage?.text ?? null
})

try {
  const a = new Session(numberA)
  const b = new Session(numberB)
  say({ event: 'opened', number: numberA, ms: await a.open() })
  say({ event: 'opened', number: numberB, ms: await b.open() })

  const start = Date.now()
  const { key } = await a.sock.sendMessage(`${numberB}@s.whatsapp.net`, { text: 'hello' })
  await a.until('the ack', s => s.acks.some(ack => ack.id === key.id))
  await b.until('the text', s => s.received.some(m => m.id === key.id && m.text === 'hello'))
  await a.until('the delivery', s => s.updates.some(u => u.id === key.id && u.status === 3))
  await a.until('the read receipt', s => s.updates.some(u => u.id === key.id && u.status === 4))
  say({ event: 'sent', ms: Date.now() - start, received: b.received.at(-1), ack: a.acks.at(-1) })

  const answerTo = b.received.at(-1).from
  const answer = await b.sock.sendMessage(answerTo, { text: 'hello back' })
  await a.until('the answer', s => s.received.some(m => m.id === answer.key.id && m.text === 'hello back'))
  say({ event: 'answered', received: a.received.at(-1) })

  const phone = '962399'
  await post('/phones', { number: phone })
  const acked = id => a.until(`the ack of ${id}`, s => s.acks.some(ack => ack.id === id))
  const write = async text => {
    const sent = await a.sock.sendMessage(`${phone}@s.whatsapp.net`, { text })
    await acked(sent.key.id)
    return sent.key.id
  }
  for (const text of ['one', 'two']) await write(text)
  const { id: said } = await post(`/phones/${phone}/send`, { to: numberA, text: 'three' })
  await a.until("the phone's text", s => s.received.some(m => m.id === said && m.text === 'three'))
  await write('four')
  say({ event: 'talked', received: a.received.find(m => m.id === said) })

  // A client that loses its newest key update encrypts the next message with a key that was used before.
  const before = new Map([...a.keys.data].filter(([name]) => name.startsWith('session/')).map(([name, value]) => [name, structuredClone(value)]))
  await write('five')
  for (const [name, value] of before) a.keys.data.set(name, value)
  const reused = await write('six')
  await a.until('the retry to be answered', s => s.acks.filter(ack => ack.id === reused).length > 1)
  say({ event: 'reused', id: reused })

  await a.sock.end(undefined)
  const missed = await b.sock.sendMessage(answerTo, { text: 'while you were away' })
  await b.until('its ack', s => s.acks.some(ack => ack.id === missed.key.id))
  const reopened = await a.open()
  await a.until('the missed text', s => s.received.some(m => m.id === missed.key.id && m.text !== null))
  say({ event: 'caught-up', ms: reopened, received: a.received.at(-1) })

  const [unknown] = await b.sock.onWhatsApp('99999999999')
  say({ event: 'done', unknownExists: unknown?.exists ?? false })
  process.exit(0)
} catch (error) {
  say({ event: 'failed', error: String(error) })
  process.exit(1)
}
