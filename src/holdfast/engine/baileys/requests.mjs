// Requests of one link to Holdfast, and their answers, matched by number.

export class PendingRequests {
  #asked = new Map() // number -> {resolve, reject}
  #count = 0
  #closed = null

  /** @param emit  request with its number => void */
  constructor({ emit }) {
    this.emit = emit
  }

  ask(request) {
    if (this.#closed) return Promise.reject(this.#closed)
    const { promise, resolve, reject } = Promise.withResolvers()
    this.#count += 1
    this.#asked.set(this.#count, { resolve, reject })
    this.emit({ ...request, request: this.#count })
    return promise
  }

  answer(number, value) {
    this.#asked.get(number)?.resolve(value)
    this.#asked.delete(number)
  }

  /** Reject all pending requests, and all later ones. */
  close(error) {
    this.#closed = error
    for (const { reject } of this.#asked.values()) reject(error)
    this.#asked.clear()
  }
}
