// A bare Baileys session against a simulated WhatsApp, for the scripts in this folder.
//
// Nothing of Baileys is patched; only its documented options are used.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { join } from 'node:path'

for (const name of ['log', 'info', 'warn', 'error', 'debug']) console[name] = () => {} // libsignal prints keys

const [dir, url, control] = process.argv.slice(2) // DIR holds node_modules
const require = createRequire(join(dir, 'package.json'))
export const baileys = await import(pathToFileURL(require.resolve('baileys')))
const { makeWASocket, initAuthCreds } = baileys
const pino = (await import(pathToFileURL(require.resolve('pino')))).default
const logger = pino({ level: process.env.BAILEYS_LOG ?? 'silent' }, pino.destination(2))

export const report = value => process.stdout.write(JSON.stringify(value) + '\n')

export const post = async (path, body) => {
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

export class Session {
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
    ws.on('CB:ack,class:message', node => this.record('acks', node.attrs))
    ev.on('messages.upsert', ({ messages, type }) => {
      for (const message of messages) this.record('received', { ...summary(message), type })
    })
    ev.on('messages.update', updates => {
      for (const { key, update } of updates) this.record('updates', { id: key.id, status: update.status })
    })
    return new Promise((resolve, reject) => {
      ev.on('connection.update', update => {
        if (update.qr) post(`/phones/${this.number}/scan`, { qr: update.qr }).catch(reject)
        if (update.connection === 'open') resolve('open')
        if (update.connection === 'close') resolve(update.lastDisconnect?.error?.output?.statusCode)
      })
    })
  }

  record(list, value) {
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
