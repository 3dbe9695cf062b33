// The gate between Baileys and one socket: a frame is sent only after every commit that was started before the frame
// was handed over is durable. So no key is used on the wire that a crash could make us lose, and WhatsApp never learns
// that we have a message before it is stored.
//
// Frames always keep their order, because each is encrypted under a counter. The gate knows nothing of Baileys or
// sockets.

export class Gate {
  #begun = 0
  #outstanding = new Set() // in the order in which they started
  #queue = []
  #head = 0
  #closed = false

  /** Start a commit; returns its number. */
  begin() {
    this.#begun += 1
    this.#outstanding.add(this.#begun)
    return this.#begun
  }

  /** Whether commit `seq` is not durable yet. */
  isOutstanding(seq) {
    return this.#outstanding.has(seq)
  }

  /** Python reports that commit `seq` is durable. */
  committed(seq) {
    this.#outstanding.delete(seq)
    this.#flush()
  }

  /** Call `leave` when all commits started so far are durable and everything before it has been sent. */
  pass(leave) {
    this.#enqueue(this.#begun, leave)
  }

  /** Call `callback` as soon as everything that was passed before it has been sent. */
  mark(callback) {
    this.#enqueue(0, callback)
  }

  get waiting() {
    return this.#queue.length - this.#head
  }

  /** Drop what is waiting, for good: the socket is gone. */
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

  // Answers may arrive in any order: durable is everything before the first gap.
  #durable() {
    for (const first of this.#outstanding) return first - 1
    return this.#begun
  }
}
