// Prepares a recipient before a message is passed to Baileys: is the number on WhatsApp, which devices does it have,
// and is there a Signal session for each.
//
// `relayMessage` would find out most of that by itself, but inside the transaction that blocks every other send of the
// session, and without telling "no such number" from "no answer". Here it is queried once for each new contact, while
// other sends continue.

import { isJidGroup, isLidUser, isPnUser, jidDecode, jidNormalizedUser } from 'baileys'

export class NotOnWhatsApp extends Error {}
export class NoAudience extends Error {}
export class NoAnswer extends Error {}

// Kinds of queries, for the limits: device lists and numbers, and key bundles.
const USYNC = 'usync'
const KEYS = 'encrypt'

// As in Baileys: after this time the device list is queried again.
const DEVICES_KEPT_MS = 5 * 60 * 1000
const DEVICES_KEPT = 2000
/** People in one query about the audience of a status. */
const PEOPLE_AT_ONCE = 50

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
  #ready = new Map() // requested JID -> JID to send to
  #asking = new Map()
  #doubted = new Set()

  /** @param limits  the link's QueryLimits */
  constructor({ sock, store, devices, groups, limits }) {
    this.sock = sock
    this.store = store
    this.devices = devices
    this.groups = groups
    this.limits = limits
  }

  /** The JID to send to, prepared; throws `NotOnWhatsApp`, `NoSuchGroup`, `NoAnswer` or `QueryLimited`. */
  async prepare(jid) {
    if (this.#isReady(jid)) return this.#ready.get(jid)
    if (!this.#asking.has(jid)) {
      this.#asking.set(jid, this.#ask(jid).finally(() => this.#asking.delete(jid)))
    }
    return this.#asking.get(jid)
  }

  /**
   * The people who may see a status, prepared: those of them who are on WhatsApp. Throws `NoAudience` when nobody is,
   * `NoAnswer` or `QueryLimited`.
   */
  async prepareAudience(people) {
    const own = jidNormalizedUser(this.sock.user.id)
    const reached = []
    for (let from = 0; from < people.length; from += PEOPLE_AT_ONCE) {
      const part = people.slice(from, from + PEOPLE_AT_ONCE)
      const devices = await this.#devicesOf([own, ...part], true)
      if (!devices.length) throw new NoAnswer('WhatsApp did not answer the query for the list of devices')
      await this.#readySessions(devices.map(({ jid }) => jid), false)
      const users = new Set(devices.map(({ user }) => user))
      reached.push(...part.filter(jid => users.has(jidDecode(jid).user)))
    }
    if (!reached.length) throw new NoAudience('nobody in the audience is on WhatsApp')
    return reached
  }

  /**
   * WhatsApp refused a message because of outdated devices: query everything about this chat again before the next one.
   */
  invalidate(jid) {
    this.#doubted.add(jid)
  }

  #isReady(jid) {
    const target = this.#ready.get(jid)
    return target !== undefined && !this.#doubted.has(jid) && !this.#doubted.has(target) && this.devices.has(jidDecode(target).user)
  }

  async #ask(jid) {
    const target = this.#ready.get(jid) ?? (isPnUser(jid) ? await this.#locate(jid) : jid)
    const refresh = this.#doubted.has(jid) || this.#doubted.has(target)
    if (isJidGroup(target)) await this.#readyGroup(target, refresh)
    if (isPnUser(target) || isLidUser(target)) {
      await this.#readyPerson(target, refresh)
      this.#ready.set(jid, target)
    }
    if (refresh) for (const name of [jid, target]) this.#doubted.delete(name)
    return target
  }

  // Baileys queries key bundles together with a device list, and swallows the error: for somebody without a session
  // both count as one query for keys.
  async #readyPerson(target, refresh) {
    const ready = async () => {
      const { user } = jidDecode(target)
      const { id, lid } = this.sock.user
      const own = jidNormalizedUser(isLidUser(target) && lid ? lid : id)
      const devices = await this.#devicesOf([own, target], !refresh && isPnUser(target))
      if (!devices.some(device => device.user === user)) await this.#explain(target, devices)
      return devices.map(device => device.jid)
    }
    if (!refresh && (await this.#hasSession(target))) return this.#readySessions(await ready(), refresh)
    return this.limits.run(KEYS, async () => this.sock.assertSessions(await ready(), refresh))
  }

  async #devicesOf(people, useCache) {
    const ask = () => this.sock.getUSyncDevices(people, useCache, false)
    const known = useCache && people.every(jid => this.devices.has(jidDecode(jid).user))
    return known ? ask() : this.limits.run(USYNC, ask)
  }

  async #readySessions(devices, refresh) {
    const has = await Promise.all(devices.map(async jid => !refresh && (await this.#hasSession(jid))))
    const missing = devices.filter((_, n) => !has[n])
    if (missing.length) await this.limits.run(KEYS, () => this.sock.assertSessions(missing, refresh))
  }

  async #hasSession(jid) {
    return (await this.sock.signalRepository.validateSession(jid)).exists
  }

  // No answer looks the same as no devices. A number can be checked; a LID is queried together with our own account.
  async #explain(target, devices) {
    if (isPnUser(target)) await this.#lookUp(target)
    else if (devices.length) throw new NotOnWhatsApp('the hidden id is not on WhatsApp')
    throw new NoAnswer('WhatsApp did not answer the query for the list of devices')
  }

  // Members who have our key for the group need no session with us.
  async #readyGroup(jid, refresh) {
    if (refresh) this.groups.forget(jid)
    const { participants } = await this.groups.get(jid)
    const devices = await this.#devicesOf(participants.map(({ id }) => id), !refresh)
    if (refresh) this.store.set({ 'sender-key-memory': { [jid]: null } })
    const { [jid]: withKey = {} } = await this.store.get('sender-key-memory', [jid])
    const withoutKey = devices.map(device => device.jid).filter(device => !withKey[device])
    await this.#readySessions(withoutKey, refresh)
  }

  // A number with a stored device list existed before: no query needed.
  async #locate(jid) {
    const { user } = jidDecode(jid)
    const { [user]: known } = await this.store.get('device-list', [user])
    return known ? jid : this.#lookUp(jid)
  }

  // Brazilian and other numbers have two spellings; WhatsApp answers with the one that it uses.
  async #lookUp(jid) {
    const answer = await this.limits.run(USYNC, () => this.sock.onWhatsApp(jid))
    if (answer === undefined) throw new NoAnswer('WhatsApp did not answer whether the number is on WhatsApp')
    const found = answer.find(row => row.exists)
    if (!found) throw new NotOnWhatsApp('the number is not on WhatsApp')
    const target = isPnUser(found.jid) ? jidNormalizedUser(found.jid) : jid
    // Receipts will come from the number in WhatsApp's spelling.
    if (target !== jid) this.store.set({ 'number-spelling': { [jidDecode(jid).user]: jidDecode(target).user } })
    return target
  }
}
