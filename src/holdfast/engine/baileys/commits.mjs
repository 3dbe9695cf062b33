// The commits of one link: what Holdfast must store before a frame that depends on it is sent.

import { Gate } from './gate.mjs'

export class Commits {
  #gate = new Gate()
  #waiting = new Map() // seq -> resolve

  /** @param report  report => void: passes a report on to Holdfast */
  constructor({ report }) {
    this.report = report
  }

  /** Start a commit; returns its number. Without content it is a barrier after everything that was reported before. */
  begin({
    credentials,
    paired,
    keys,
    decrypted,
    undecryptable,
    made,
    groups,
    usernames,
    changes,
    history,
    historyProgress,
    calls,
    groupChanges
  }) {
    const seq = this.#gate.begin()
    this.report({
      r: 'commit',
      seq,
      credentials,
      paired,
      keys: keys && Object.keys(keys).length ? keys : undefined,
      decrypted: decrypted?.length ? decrypted : undefined,
      undecryptable,
      made,
      groups,
      usernames,
      changes: changes?.length ? changes : undefined,
      history: history?.length ? history : undefined,
      historyProgress,
      calls,
      groupChanges
    })
    return seq
  }

  isOutstanding(seq) {
    return this.#gate.isOutstanding(seq)
  }

  /** Resolves when Holdfast has stored the commit `seq`. */
  whenDurable(seq) {
    return new Promise(resolve => this.#waiting.set(seq, resolve))
  }

  /** Holdfast has stored the commit `seq`. */
  committed(seq) {
    this.#gate.committed(seq)
    this.#waiting.get(seq)?.()
    this.#waiting.delete(seq)
  }

  /** Hold the frames of a socket until every commit that was started before them is durable. */
  guard(socket) {
    const send = socket.send.bind(socket)
    // The bridge confirms the frame to Baileys at once. Baileys only waits for that, and the bridge ignores what it
    // concludes.
    socket.send = (bytes, done) => {
      if (socket.readyState !== socket.OPEN) return send(bytes, done)
      this.#gate.pass(() => send(bytes, () => {}))
      done?.()
    }
    socket.on('error', () => {})
  }

  /** Call `callback` as soon as every frame before it has been sent. */
  afterFrames(callback) {
    this.#gate.mark(callback)
  }

  /** Drop what is waiting: the socket is gone. */
  close() {
    this.#gate.close()
  }
}
