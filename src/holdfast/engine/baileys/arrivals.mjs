// Passes inbound messages to Baileys one after the other for each chat. By itself Baileys handles them concurrently: a
// message that waits for a query is overtaken by later ones, and messages of WhatsApp's offline queue by new ones. Here
// each chat has a queue, so its messages keep their order and no chat waits for another.

import { jidNormalizedUser } from 'baileys'

import { Lane } from './lane.mjs'
import { phoneJidOf } from './inbound.mjs'

const MOST_AT_ONCE = 16 // handled, over all chats, before the event loop runs again
const MOST_CIPHERTEXTS = 4 // in one message; real ones have at most two, the second with a group's keys

export class Arrivals {
  #lanes = new Map() // chat -> {lane, waiting}
  #places = MOST_AT_ONCE
  #queue = []
  #closed = null

  /**
   * @param inbound  the link's Inbound
   * @param missed   undecryptable => void: commits that a message can't be read
   * @param arrived  decrypted => void: commits a message that is not encrypted
   * @param peek     (type, id) => a key that is in memory, or undefined
   */
  constructor({ inbound, missed, arrived = () => {}, peek = () => undefined }) {
    Object.assign(this, { inbound, missed, arrived, peek })
  }

  /** The handler of message stanzas, around Baileys' own. */
  around(handle) {
    return stanza => {
      this.inbound.note(stanza)
      // With this attribute, Baileys would put the message into a queue of its own.
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

  // Messages of one person arrive under the phone number or the LID; those that our own phone wrote name the chat as
  // recipient.
  #chatOf({ from, recipient, sender_pn: phone, peer_recipient_pn: recipientPhone }) {
    const jid = recipient ?? from
    const phoneJid = recipient ? recipientPhone : phone
    return jidNormalizedUser(phoneJid || (jid?.endsWith('@lid') && phoneJidOf(jid, this.peek)) || jid)
  }

  async #take(stanza, handled, handle) {
    const isPlain = tagsOf(stanza).includes('plaintext')
    const isUnreadable = isWithheld(stanza) || (isPlain && this.inbound.isDamaged(stanza))
    const missed = isUnreadable && (await this.inbound.unreadable(stanza))
    if (missed) this.missed(missed)
    const arrived = isPlain && (await this.inbound.unencrypted(stanza))
    if (arrived) this.arrived(arrived)
    await handle(handled)
  }
}

// Baileys would try to decrypt each of them before it handles any other message of the link.
function withFewCiphertexts(content) {
  if (!Array.isArray(content)) return content
  let left = MOST_CIPHERTEXTS
  return content.filter(({ tag }) => tag !== 'enc' || left-- > 0)
}

// WhatsApp announces a message without its content, for example because it may be viewed only once.
function isWithheld(stanza) {
  const tags = tagsOf(stanza)
  return tags.includes('unavailable') && !tags.includes('enc')
}

const tagsOf = ({ content }) => (Array.isArray(content) ? content.map(({ tag }) => tag) : [])
