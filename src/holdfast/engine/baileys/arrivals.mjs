// Hands messages that come in to Baileys one after the other. By itself it handles them side by side: one that waits
// for a look-up is overtaken, and what waited in WhatsApp's offline queue by what is new. One after the other they are
// kept in the order in which they came.

import { Lane } from './lane.mjs'

export class Arrivals {
  #lane = new Lane()

  /**
   * @param inbound  the link's Inbound
   * @param missed   undecryptable => void: commits that a message can't be read
   */
  constructor({ inbound, missed }) {
    this.inbound = inbound
    this.missed = missed
  }

  /** The handler of message stanzas, around Baileys' own. */
  around(handle) {
    return stanza => {
      this.inbound.note(stanza)
      // With that mark it would go to a queue of Baileys' own.
      const { offline, ...attrs } = stanza.attrs
      this.#lane.run(() => this.#take(stanza, { ...stanza, attrs }, handle)).catch(() => {})
    }
  }

  close(error) {
    this.#lane.close(error)
  }

  async #take(stanza, unmarked, handle) {
    const missed = isWithheld(stanza) && (await this.inbound.unreadable(stanza))
    if (missed) this.missed(missed)
    await handle(unmarked)
  }
}

// WhatsApp says that there is a message and keeps what it says, for example because it may be seen only once.
function isWithheld({ content }) {
  const tags = Array.isArray(content) ? content.map(({ tag }) => tag) : []
  return tags.includes('unavailable') && !tags.includes('enc')
}
