// Hands messages that come in to Baileys one after the other for each chat. By itself Baileys handles them side by side:
// one that waits for a look-up is overtaken, and what waited in WhatsApp's offline queue by what is new. Here each chat
// has a queue of its own: its messages keep their order, and no chat waits for another one's.

import { jidNormalizedUser } from 'baileys'

import { Lane } from './lane.mjs'
import { phoneJidOf } from './inbound.mjs'

const MOST_AT_ONCE = 16 // of all chats: so many may be handled before the event loop has its turn
const MOST_CIPHERTEXTS = 4 // of one message; honest ones have two at most, the second with the keys of a group

export class Arrivals {
  #lanes = new Map() // chat -> {lane, waiting}
  #places = MOST_AT_ONCE
  #queue = []
  #closed = null

  /**
   * @param inbound  the link's Inbound
   * @param missed   undecryptable => void: commits that a message can't be read
   * @param peek     (type, id) => a key that is in memory, or undefined
   */
  constructor({ inbound, missed, peek = () => undefined }) {
    this.inbound = inbound
    this.missed = missed
    this.peek = peek
  }

  /** The handler of message stanzas, around Baileys' own. */
  around(handle) {
    return stanza => {
      this.inbound.note(stanza)
      // With that mark it would go to a queue of Baileys' own.
      const { offline, ...attrs } = stanza.attrs
      const handled = { ...stanza, attrs, content: withFewCiphertexts(stanza.content) }
      this.#run(this.#chatOf(attrs), () => this.#take(stanza, handled, handle)).catch(() => {})
    }
  }

  close(error) {
    this.#closed = error
    for (const { lane } of this.#lanes.values()) lane.close(error)
    this.#lanes.clear()
    this.#queue = []
  }

  async #run(chat, work) {
    if (this.#closed) throw this.#closed
    const entry = this.#lanes.get(chat) ?? { lane: new Lane(), waiting: 0 }
    this.#lanes.set(chat, entry)
    entry.waiting += 1
    try {
      await entry.lane.run(() => this.#inPlace(work))
    } finally {
      entry.waiting -= 1
      if (!entry.waiting && this.#lanes.get(chat) === entry) this.#lanes.delete(chat)
    }
  }

  async #inPlace(work) {
    if (this.#places) this.#places -= 1
    else await new Promise(resolve => this.#queue.push(resolve))
    try {
      await work()
    } finally {
      const next = this.#queue.shift()
      if (next) setImmediate(next)
      else this.#places += 1
    }
  }

  // One person's messages come by phone number or by LID, and what our own phone wrote names the chat as recipient.
  #chatOf({ from, recipient, sender_pn: phone, peer_recipient_pn: recipientPhone }) {
    const jid = recipient ?? from
    const told = recipient ? recipientPhone : phone
    return jidNormalizedUser(told || (jid?.endsWith('@lid') && phoneJidOf(jid, this.peek)) || jid)
  }

  async #take(stanza, handled, handle) {
    const missed = isWithheld(stanza) && (await this.inbound.unreadable(stanza))
    if (missed) this.missed(missed)
    await handle(handled)
  }
}

// Baileys tries to decrypt each of them before it handles any other message of the link.
function withFewCiphertexts(content) {
  if (!Array.isArray(content)) return content
  let left = MOST_CIPHERTEXTS
  return content.filter(({ tag }) => tag !== 'enc' || left-- > 0)
}

// WhatsApp says that there is a message and keeps what it says, for example because it may be seen only once.
function isWithheld({ content }) {
  const tags = Array.isArray(content) ? content.map(({ tag }) => tag) : []
  return tags.includes('unavailable') && !tags.includes('enc')
}
