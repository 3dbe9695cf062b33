// The gate between Baileys and one socket: no frame leaves before every commit that was begun before the frame was
// handed over is durable. So keys are never used on the wire that a crash could make us forget, and WhatsApp never
// hears that we have a message before we have it.
//
// Frames keep their order, always: each is encrypted under a counter. Knows nothing of Baileys or sockets.

export class Gate {
  #begun = 0
  #outstanding = new Set() // in order of beginning, as sets are
  #queue = []
  #head = 0
  #closed = false

  /** Begin a commit; answers its number. */
  begin() {
    this.#begun += 1
    this.#outstanding.add(this.#begun)
    return this.#begun
  }

  /** Whether commit `seq` is not durable yet. */
  isOutstanding(seq) {
    return this.#outstanding.has(seq)
  }

  /** Python says that commit `seq` is durable. */
  committed(seq) {
    this.#outstanding.delete(seq)
    this.#flush()
  }

  /** Carry `leave` out when all commits begun so far are durable and everything before it has left. */
  pass(leave) {
    this.#enqueue(this.#begun, leave)
  }

  /** Carry `tell` out as soon as everything that was passed before it has left. */
  mark(tell) {
    this.#enqueue(0, tell)
  }

  get waiting() {
    return this.#queue.length - this.#head
  }

  /** Drop what waits, for good: the socket is gone. */
  close() {
    this.#closed = true
    this.#queue = []
    this.#head = 0
  }

  #enqueue(need, act) {
    if (this.#closed) return
    this.#queue.push({ need, act })
    this.#flush()
  }

  #flush() {
    while (this.#head < this.#queue.length && this.#queue[this.#head].need <= this.#durable()) {
      const { act } = this.#queue[this.#head]
      this.#queue[this.#head] = undefined
      this.#head += 1
      act()
    }
    if (this.#head === this.#queue.length) {
      this.#queue = []
      this.#head = 0
    }
  }

  // Answers may come in any order: durable is what has no gap before it.
  #durable() {
    for (const first of this.#outstanding) return first - 1
    return this.#begun
  }
}
