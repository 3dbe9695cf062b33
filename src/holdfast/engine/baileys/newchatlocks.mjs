// WhatsApp's locks on messages to new contacts, and when they end: the reach-out lock (ack error 463) and the quota of
// new chats (475).
//
// WhatsApp reports the end of a lock only in answer to a query. When it answers that there is no lock, although it has just refused
// a message, that answer is ignored: the message would be sent again at once and refused again. A notification that a
// lock has ended is always reported.

const REACH_OUT_LOCK = 'reach-out-lock'
const NEW_CHAT_QUOTA = 'new-chat-quota'
const ASK_AGAIN_MS = [10_000, 60_000, 600_000]

export class NewChatLocks {
  #asking = new Map() // lock -> notifications of its end that arrived during the query

  /**
   * @param sock        Baileys' socket
   * @param report      report => void
   * @param askAgainMs  pauses after which a query that failed is asked again
   */
  constructor({ sock, report, askAgainMs = ASK_AGAIN_MS }) {
    Object.assign(this, { sock, report, askAgainMs })
  }

  /** A message was refused with an error. */
  refused(error) {
    if (error === '463') this.#ask(REACH_OUT_LOCK, () => this.sock.fetchAccountReachoutTimelock())
    if (error === '475') this.#ask(NEW_CHAT_QUOTA, () => this.#askForQuota())
  }

  /** Baileys reported the reach-out lock: in answer to a query, or on a notification. */
  reachOutLock(state) {
    const untilS = state.timeEnforcementEnds ? Math.floor(state.timeEnforcementEnds / 1000) : undefined
    this.#changed({ lock: REACH_OUT_LOCK, active: Boolean(state.isActive), untilS, state })
  }

  /** WhatsApp notified how much of the quota of new chats is used. */
  newChatQuota(state) {
    this.#changed({ lock: NEW_CHAT_QUOTA, active: state.capping_status === 'CAPPED', untilS: endOf(state), state })
  }

  // The quota is used up, whatever its state says: a message has just been refused.
  async #askForQuota() {
    const state = await this.sock.fetchNewChatMessageCap()
    if (endOf(state)) this.#report({ lock: NEW_CHAT_QUOTA, active: true, untilS: endOf(state) })
    return state
  }

  #changed(change) {
    const ends = this.#asking.get(change.lock)
    if (ends && !change.active) ends.push(change)
    else this.#report(change)
  }

  #report({ lock, active, untilS }) {
    this.report({ r: 'new-chats-locked', lock, active, untilS: active ? untilS : undefined })
  }

  async #ask(lock, query, attempt = 0) {
    if (this.#asking.has(lock)) return
    const ends = []
    this.#asking.set(lock, ends)
    const answer = await query().catch(() => undefined)
    this.#asking.delete(lock)
    const end = ends.find(({ state }) => state !== answer)
    if (end) this.#report(end)
    else if (!answer && attempt < this.askAgainMs.length) {
      setTimeout(() => this.#ask(lock, query, attempt + 1), this.askAgainMs[attempt]).unref()
    }
  }
}

// Unix seconds, as a string.
function endOf({ cycle_end_timestamp: end }) {
  return Number(end) > 0 ? Math.floor(Number(end)) : undefined
}
