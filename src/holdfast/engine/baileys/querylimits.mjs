// Backoff for one link's queries to WhatsApp, by kind of query.
//
// Under load WhatsApp answers queries with 429 (`rate-overlimit`), 503, 500 or 408, for minutes. Such an answer says
// nothing about the message that needed the query, and asking again for every message makes it worse. So after such an
// answer queries of that kind are refused here, for a time that doubles with every failed probe. When it has passed,
// one query probes; the others wait for its answer.

const FIRST_PAUSE_S = 2
const LONGEST_PAUSE_S = 60
const JITTER = 0.25
const MOST_AT_ONCE = 4 // so that a burst of first messages notices the limit after a few queries

const CODES = { 408: 'server-busy', 429: 'rate-limited', 500: 'server-busy', 503: 'server-busy' }

/** WhatsApp answers no queries of this kind for now. */
export class QueryLimited extends Error {
  constructor({ code, kind, error, retryAfterS }) {
    super(`${kind}: ${error}`)
    Object.assign(this, { code, kind, retryAfterS })
  }
}

/** The port's code for an error of Baileys that is WhatsApp's answer "not now"; undefined for any other error. */
export function limitCode(error) {
  // Baileys' errors carry the answer's code in `data`; `output.statusCode` is 500 unless it says otherwise.
  return typeof error?.data === 'number' ? CODES[error.data] : undefined
}

class Kind {
  running = 0
  waiting = []
  pauses = 0 // failed queries in a row, queries that ran at the same time count once
  pausedAt = -Infinity
  until = -Infinity
  last = null // {code, error} of the answer that began the pause
}

export class QueryLimits {
  #kinds = new Map()
  #closed = null

  /**
   * @param now     () => milliseconds, monotonic
   * @param chance  () => a number from 0 to 1
   */
  constructor({ now = () => performance.now(), chance = Math.random } = {}) {
    Object.assign(this, { now, chance })
  }

  /**
   * Run a query of a kind; throws `QueryLimited` while WhatsApp answers none (without asking), or when it refuses.
   * @param kind   the query's xmlns
   * @param query  async () => answer
   */
  async run(kind, query) {
    const state = this.#state(kind)
    await this.#enter(kind, state)
    const begunAt = this.now()
    try {
      const answer = await query()
      state.pauses = 0
      return answer
    } catch (error) {
      const code = limitCode(error)
      if (!code) throw error
      this.#pause(state, begunAt, { code, error: `${error.message} (${error.data})` })
      throw this.#limited(kind, state)
    } finally {
      state.running -= 1
      this.#admit(kind, state)
    }
  }

  /** Reject everything that waits, and everything later. */
  close(error) {
    this.#closed = error
    for (const { waiting } of this.#kinds.values()) {
      for (const { reject } of waiting.splice(0)) reject(error)
    }
  }

  #state(kind) {
    if (!this.#kinds.has(kind)) this.#kinds.set(kind, new Kind())
    return this.#kinds.get(kind)
  }

  #enter(kind, state) {
    if (this.#closed) return Promise.reject(this.#closed)
    const { promise, resolve, reject } = Promise.withResolvers()
    state.waiting.push({ resolve, reject })
    this.#admit(kind, state)
    return promise
  }

  #admit(kind, state) {
    if (this.now() < state.until) {
      for (const { reject } of state.waiting.splice(0)) reject(this.#limited(kind, state))
    }
    const most = state.pauses ? 1 : MOST_AT_ONCE
    while (state.waiting.length && state.running < most) {
      state.running += 1
      state.waiting.shift().resolve()
    }
  }

  // Queries that ran at the same time as a failed one prove nothing new.
  #pause(state, begunAt, last) {
    if (begunAt <= state.pausedAt) return
    const pauseS = Math.min(FIRST_PAUSE_S * 2 ** state.pauses, LONGEST_PAUSE_S) * (1 + JITTER * this.chance())
    state.pauses = Math.min(state.pauses + 1, 10)
    state.pausedAt = this.now()
    state.until = state.pausedAt + pauseS * 1000
    state.last = last
  }

  #limited(kind, state) {
    const retryAfterS = Math.max(Math.ceil(state.until - this.now()), 1) / 1000
    return new QueryLimited({ ...state.last, kind, retryAfterS })
  }
}
