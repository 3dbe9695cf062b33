// The usernames of people who hide their numbers: WhatsApp's stanzas from them have only a hidden id (LID), so the
// username is queried, once per link, one person at a time.

import { isLidUser, jidNormalizedUser } from 'baileys'

import { Lane } from './lane.mjs'
import { QueryLimited } from './querylimits.mjs'
import { hiddenIn, peopleByLid } from './stanzas.mjs'

const MOST_KNOWN = 10_000
const FORM = /^[a-z0-9_.]{1,64}$/i

export class Usernames {
  #lane = new Lane()
  #asked = new Set()

  /**
   * @param ask     node => Promise of WhatsApp's answer
   * @param commit  {LID: username} => void
   */
  constructor({ ask, commit }) {
    Object.assign(this, { ask, commit })
  }

  /** A message stanza arrived. */
  observe({ from, sender_pn: phone, recipient }) {
    if (!isLidUser(from) || phone || recipient) return
    const lid = jidNormalizedUser(from)
    if (this.#asked.has(lid) || this.#asked.size >= MOST_KNOWN) return
    this.#asked.add(lid)
    // Without an answer the username stays unknown until the next link; under a rate limit, until the next message.
    this.#lane.run(() => this.#learn(lid)).catch(error => error instanceof QueryLimited && this.#asked.delete(lid))
  }

  close(error) {
    this.#lane.close(error)
  }

  async #learn(lid) {
    const found = hiddenIn(await this.ask(peopleByLid([lid]))).find(row => row.lid === lid)
    if (found?.username && FORM.test(found.username)) this.commit({ [lid]: found.username.toLowerCase() })
  }
}
