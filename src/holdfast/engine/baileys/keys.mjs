// One link's view of its session's Signal keys, as the raw store that Baileys requires. Reads are served from memory or
// from Python; writes start a commit and return at once. The gate, not this store, guarantees that they are durable
// before they are used on the wire.
//
// Values are stored as text and parsed for each reader: libsignal modifies what it gets in place, and a change by a
// transaction that failed must not stay in memory.

import { VERSIONS } from './appstate.mjs'

/** Key type under which a decrypted message passes through a transaction, so that it is part of the same commit. */
export const DECRYPTED = 'holdfast-decrypted'

// A sender key's id contains the group's name as its sender wrote it. No real id is longer; a longer one is never
// stored.
const ID_CHARS = 4096

// 812 pre-keys are created at pairing, and each is read once, months later. A version of app state has megabytes when an
// account has many contacts.
const NOT_KEPT = new Set(['pre-key', VERSIONS])
const NOT_BEGUN = -1 // stands for the number of a commit that has not begun yet

export class KeyStore {
  #kept = new Map() // "type\nid" -> {text, seq}; text null: known to be absent
  #size = 0
  #transient = new Map() // seq -> keys to forget when it is durable

  /**
   * @param ask      (type, ids) => Promise of {id: text}: what Python has
   * @param commit   ({keys, decrypted}) => seq
   * @param isOutstanding  seq => whether that commit is not durable yet
   * @param hold     {id: text} => void: takes versions of app state, for `commitVersions`
   * @param json     {stringify(value, type), parse(text, type)}
   * @param limit    characters of values to keep in memory
   */
  constructor({ ask, commit, isOutstanding, hold = versions => this.commitVersions(versions), json, limit = 1_000_000 }) {
    this.ask = ask
    this.hold = hold
    this.commit = commit
    this.isOutstanding = isOutstanding
    this.json = json
    this.limit = limit
  }

  get size() {
    return this.#size
  }

  async get(type, ids) {
    const missing = ids.filter(id => id.length <= ID_CHARS && !this.#kept.has(`${type}\n${id}`))
    const fetched = missing.length ? await this.ask(type, missing) : {}
    const found = Object.create(null) // ids are made of addresses, which may be `__proto__`
    for (const id of ids) {
      if (id.length > ID_CHARS) continue
      const text = this.#settle(type, id, fetched)
      if (text !== null) found[id] = this.json.parse(text, type)
    }
    return found
  }

  /** The value in memory, without asking Python, or undefined. */
  peek(type, id) {
    const text = this.#kept.get(`${type}\n${id}`)?.text
    return text == null ? undefined : this.json.parse(text, type)
  }

  set(changes) {
    const keys = {}
    const places = []
    for (const type in changes) {
      if (type === DECRYPTED) continue
      for (const id in changes[type]) {
        if (id.length > ID_CHARS) continue
        const value = changes[type][id]
        const text = value == null ? null : this.json.stringify(value, type)
        if (this.#isOnItsWay(type, id, text)) continue
        keys[type] ??= Object.create(null)
        keys[type][id] = text
        if (type !== VERSIONS) places.push([type, id, text])
      }
    }
    const versions = keys[VERSIONS]
    delete keys[VERSIONS]
    if (versions) {
      for (const id in versions) this.#keep(VERSIONS, id, versions[id], NOT_BEGUN)
      this.hold(versions)
    }
    const decrypted = Object.values(changes[DECRYPTED] ?? {})
    if (!places.length && !decrypted.length) return
    const seq = this.commit({ keys, decrypted })
    for (const [type, id, text] of places) this.#keep(type, id, text, seq)
  }

  /** Commit versions of app state, together with the changes that they brought. */
  commitVersions(versions, changes) {
    const keys = Object.keys(versions).length ? { [VERSIONS]: versions } : {}
    const seq = this.commit({ keys, changes })
    for (const id in versions) {
      if (this.#kept.get(`${VERSIONS}\n${id}`)?.text === versions[id]) this.#keep(VERSIONS, id, versions[id], seq)
    }
  }

  /** Commit `seq` is durable: drop what was kept only until then. */
  committed(seq) {
    for (const place of this.#transient.get(seq) ?? []) {
      if (this.#kept.get(place)?.seq === seq) this.#forget(place)
    }
    this.#transient.delete(seq)
    this.#shrink()
  }

  // The answer to a read may arrive after a newer write: the value in memory wins.
  #settle(type, id, fetched) {
    const place = `${type}\n${id}`
    const kept = this.#kept.get(place)
    if (kept) {
      this.#kept.delete(place)
      this.#kept.set(place, kept)
      return kept.text
    }
    const text = Object.hasOwn(fetched, id) ? fetched[id] : null
    if (!NOT_KEPT.has(type)) this.#keep(type, id, text, 0)
    return text
  }

  // Pre-keys are committed when they are created, and again when Baileys' own transaction ends: once is enough.
  #isOnItsWay(type, id, text) {
    const kept = this.#kept.get(`${type}\n${id}`)
    return kept !== undefined && kept.text === text && NOT_KEPT.has(type)
  }

  #keep(type, id, text, seq) {
    const place = `${type}\n${id}`
    this.#forget(place)
    this.#kept.set(place, { text, seq })
    this.#size += place.length + (text?.length ?? 0)
    if (NOT_KEPT.has(type) && seq !== NOT_BEGUN) {
      if (!this.#transient.has(seq)) this.#transient.set(seq, [])
      this.#transient.get(seq).push(place)
    }
    this.#shrink()
  }

  #forget(place) {
    const kept = this.#kept.get(place)
    if (!kept) return
    this.#kept.delete(place)
    this.#size -= place.length + (kept.text?.length ?? 0)
  }

  // Least recently used first, but never values that Python may not have yet.
  #shrink() {
    if (this.#size <= this.limit) return
    for (const [place, { seq }] of this.#kept) {
      if (this.#size <= this.limit) return
      if (seq !== NOT_BEGUN && !this.isOutstanding(seq)) this.#forget(place)
    }
  }
}
