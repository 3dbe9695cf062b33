// Reports what contacts do: whether they are online, and whether they write or speak. Contacts decide how often that
// changes, so changes are combined: each contact is reported once per period, with its latest state, and a link reports
// only so many contacts per period.

import { seconds } from './inbound.mjs'

const PERIOD_MS = 1000
const MOST_A_PERIOD = 20
const MOST_WAITING = 500
const MOST_KNOWN = 2000

export class ContactPresence {
  #known = new Map() // contact in its chat -> the state that was reported last
  #waiting = new Map() // contact in its chat -> report
  #timer = null
  #left = MOST_A_PERIOD

  /**
   * @param plain   JID => the person's JID, by phone number where that is known
   * @param isMe    JID => whether it is this account
   * @param report  report => void
   */
  constructor({ plain, isMe, report }) {
    Object.assign(this, { plain, isMe, report })
  }

  /** A `presence` or `chatstate` stanza arrived. */
  observe({ tag, attrs, content }) {
    const sender = attrs.participant ?? attrs.from
    const state = stateOf(tag, attrs, content)
    if (!state || !attrs.from?.includes('@') || !sender?.includes('@') || this.isMe(sender)) return
    const chat = attrs.participant ? attrs.from : this.plain(attrs.from)
    const key = `${chat} ${sender}`
    if (this.#waiting.size >= MOST_WAITING && !this.#waiting.has(key)) return
    this.#waiting.set(key, { chat, sender: this.plain(sender), state, lastSeenS: seconds(attrs.last) })
    if (!this.#timer) this.#flush()
  }

  close() {
    clearTimeout(this.#timer)
    this.#timer = null
    this.#waiting.clear()
  }

  #flush() {
    this.#left = MOST_A_PERIOD
    for (const [key, { state, ...who }] of this.#waiting) {
      if (!this.#left) break
      this.#waiting.delete(key)
      if (this.#known.get(key) === state) continue
      this.#left -= 1
      this.#know(key, state)
      this.report({ r: 'presence', state, ...who })
    }
    this.#timer = setTimeout(() => {
      this.#timer = null
      if (this.#waiting.size) this.#flush()
    }, PERIOD_MS)
    this.#timer.unref?.()
  }

  #know(key, state) {
    this.#known.delete(key)
    this.#known.set(key, state)
    if (this.#known.size > MOST_KNOWN) this.#known.delete(this.#known.keys().next().value)
  }
}

function stateOf(tag, { type }, content) {
  if (tag === 'presence') return type === 'unavailable' ? 'unavailable' : type == null || type === 'available' ? 'available' : undefined
  const shown = Array.isArray(content) ? content[0] : undefined
  if (shown?.tag === 'composing') return shown.attrs?.media === 'audio' ? 'recording' : 'composing'
  return shown?.tag === 'paused' ? 'paused' : undefined
}
