// Signs of life of one link: arriving frames and answers to pings. Holdfast decides what they mean.

import { ping } from './stanzas.mjs'

const FRAME_REPORT_MS = 1000

export class Liveness {
  #pings = new Map() // stanza id -> n
  #reportedAt = -Infinity

  /** @param report  report => void: passes a report on to Holdfast */
  constructor({ report }) {
    this.report = report
  }

  /** A frame arrived. */
  frame(frame, now = performance.now()) {
    if (now - this.#reportedAt >= FRAME_REPORT_MS) {
      this.#reportedAt = now
      this.report({ r: 'frame' })
    }
    const id = frame?.attrs?.id
    if (frame?.tag === 'iq' && this.#pings.has(id)) {
      this.report({ r: 'pong', n: this.#pings.get(id) })
      this.#pings.delete(id)
    }
  }

  /** Ping WhatsApp. If the socket is gone, `closed` reports it. */
  async ping(sock, n) {
    const id = sock.generateMessageTag()
    this.#pings.set(id, n)
    await sock.sendNode(ping(id)).catch(() => {})
  }
}
