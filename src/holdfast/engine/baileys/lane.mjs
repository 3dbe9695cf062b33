// Runs a link's sends one after the other, and lets the event loop run between them.
//
// Baileys serialises sends by a mutex around each whole send. But a chain of sends whose keys are in memory never
// leaves the microtask queue, and a few hundred of them would keep the process from reading its pipe, and from noticing
// its end, for seconds.

export class Lane {
  #waiting = []
  #running = false
  #closed = null

  run(work) {
    if (this.#closed) return Promise.reject(this.#closed)
    const { promise, resolve, reject } = Promise.withResolvers()
    this.#waiting.push({ work, resolve, reject })
    if (!this.#running) this.#run()
    return promise
  }

  /** Reject everything that waits, and everything later. */
  close(error) {
    this.#closed = error
    for (const { reject } of this.#waiting) reject(error)
    this.#waiting = []
  }

  async #run() {
    this.#running = true
    while (this.#waiting.length) {
      const { work, resolve, reject } = this.#waiting.shift()
      await work().then(resolve, reject)
      await new Promise(setImmediate)
    }
    this.#running = false
  }
}
