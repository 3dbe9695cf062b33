// The members of groups, as WhatsApp reports them: queried once, cached until a notification about the group arrives.
// The cache is bounded by people, as some groups have a thousand.

import { jidDecode } from 'baileys'

const KEPT_MS = 3_600_000
const MOST_PEOPLE = 5000

/** There is no such group, or this number is not in it. */
export class NoSuchGroup extends Error {}

// A member is identified by LID, by phone number, or by both.
const usersOf = ({ id, lid, phoneNumber }) => [id, lid, phoneNumber].map(jid => jid && jidDecode(jid)?.user).filter(Boolean)

const NOT_OURS = new Set([401, 403, 404, 406, 410])

export class Groups {
  #kept = new Map() // JID -> {asked, people, members, until}
  #people = 0

  /** @param ask  async JID => Baileys' group metadata */
  constructor({ ask }) {
    this.ask = ask
  }

  /** The group; throws `NoSuchGroup`, or the reason why there was no answer. */
  async get(jid) {
    const kept = this.#kept.get(jid)
    if (kept && kept.until > performance.now()) return kept.asked
    this.forget(jid)
    const entry = { asked: this.#ask(jid), people: 0, members: null, until: performance.now() + KEPT_MS }
    this.#kept.set(jid, entry)
    try {
      const { participants } = await entry.asked
      entry.members = new Set(participants.flatMap(usersOf))
      this.#count(entry, participants.length)
    } catch (error) {
      if (this.#kept.get(jid) === entry) this.forget(jid)
      throw error
    }
    return entry.asked
  }

  /** Is this person in the group? Undefined while the members are not known. */
  hasMember(jid, person) {
    return this.#kept.get(jid)?.members?.has(jidDecode(person)?.user)
  }

  /** How many members a group has besides this account; undefined while the members are not known. */
  others(jid) {
    const people = this.#kept.get(jid)?.people
    return people ? people - 1 : undefined
  }

  forget(jid) {
    this.#people -= this.#kept.get(jid)?.people ?? 0
    this.#kept.delete(jid)
  }

  async #ask(jid) {
    try {
      return await this.ask(jid)
    } catch (error) {
      if (![error.data, error.output?.statusCode].some(code => NOT_OURS.has(code))) throw error
      throw new NoSuchGroup('there is no such group, or this number is not in it', { cause: error })
    }
  }

  #count(entry, people) {
    if (![...this.#kept.values()].includes(entry)) return // dropped in the meantime
    entry.people = people
    this.#people += people
    for (const jid of this.#kept.keys()) {
      if (this.#people <= MOST_PEOPLE || this.#kept.size === 1) return
      this.forget(jid)
    }
  }
}
