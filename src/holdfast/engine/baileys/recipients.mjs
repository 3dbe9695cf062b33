// Makes a recipient ready before a message is handed to Baileys: is the number on WhatsApp, which devices does it
// have, is there a Signal session for each.
//
// `relayMessage` would find out most of that by itself, but inside the transaction that holds up every other send of
// the session, and without telling "no such number" from "no answer". Here it is asked once for each new
// contact, beside the other sends.

import { isPnUser, jidDecode, jidNormalizedUser } from 'baileys'

export class NotOnWhatsApp extends Error {}
export class NoAnswer extends Error {}

// As in Baileys: after that the device list is asked for again.
const DEVICES_KEPT_MS = 5 * 60 * 1000
const DEVICES_KEPT = 2000

/** Baileys' cache of device lists, as a plain map that we can look into. */
export class DevicesCache {
  #kept = new Map()

  has(user) {
    return this.get(user) !== undefined
  }

  get(user) {
    const kept = this.#kept.get(user)
    return kept && kept.until > performance.now() ? kept.devices : undefined
  }

  set(user, devices) {
    this.#kept.delete(user)
    this.#kept.set(user, { devices, until: performance.now() + DEVICES_KEPT_MS })
    if (this.#kept.size > DEVICES_KEPT) this.#kept.delete(this.#kept.keys().next().value)
  }

  del(user) {
    this.#kept.delete(user)
  }

  mget(users) {
    return Object.fromEntries(users.map(user => [user, this.get(user)]).filter(([, devices]) => devices))
  }

  mset(entries) {
    for (const { key, value } of entries) this.set(key, value)
  }

  flushAll() {
    this.#kept.clear()
  }
}

export class Recipients {
  #ready = new Map() // JID asked for -> JID to send to
  #asking = new Map()

  constructor({ sock, store, devices }) {
    this.sock = sock
    this.store = store
    this.devices = devices
  }

  /** The JID to send to, ready; throws `NotOnWhatsApp` or `NoAnswer`. */
  async prepare(jid) {
    if (!isPnUser(jid)) return jid
    const ready = this.#ready.get(jid)
    if (ready && this.devices.has(jidDecode(ready).user)) return ready
    if (!this.#asking.has(jid)) {
      this.#asking.set(jid, this.#ask(jid).finally(() => this.#asking.delete(jid)))
    }
    return this.#asking.get(jid)
  }

  async #ask(jid) {
    const target = this.#ready.get(jid) ?? (await this.#locate(jid))
    const { user } = jidDecode(target)
    const own = jidNormalizedUser(this.sock.user.id)
    const devices = await this.sock.getUSyncDevices([own, target], true, false)
    if (!devices.some(device => device.user === user)) {
      await this.#lookUp(target) // no answer looks the same as no devices; this tells them apart
      throw new NoAnswer('the list of devices was not answered')
    }
    await this.sock.assertSessions(devices.map(device => device.jid), false)
    this.#ready.set(jid, target)
    return target
  }

  // A number with a stored device list was there before: no question.
  async #locate(jid) {
    const { user } = jidDecode(jid)
    const { [user]: known } = await this.store.get('device-list', [user])
    return known ? jid : this.#lookUp(jid)
  }

  // Brazilian and other numbers have two spellings; WhatsApp answers with the one that it uses.
  async #lookUp(jid) {
    const answer = await this.sock.onWhatsApp(jid)
    if (answer === undefined) throw new NoAnswer('whether the number is on WhatsApp was not answered')
    const found = answer.find(row => row.exists)
    if (!found) throw new NotOnWhatsApp('the number is not on WhatsApp')
    return isPnUser(found.jid) ? jidNormalizedUser(found.jid) : jid
  }
}
