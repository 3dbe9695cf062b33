// Keeps WhatsApp's view of "available" at what was requested last: while a device is available, the phone gets no push
// notifications. Baileys sends more presences than it is asked to, and sometimes fewer.

export class Presence {
  #wanted = 'unavailable'
  #name
  #open = false
  #requests = 0

  constructor(sock, creds) {
    this.sock = sock
    this.creds = creds
    this.#name = creds.me?.name
    // Baileys treats each change of credentials without a name in it as a change of the name, and sends WhatsApp a
    // presence without a type, which means "available".
    const { emit } = sock.ev
    sock.ev.emit = (event, change) =>
      emit(event, event === 'creds.update' && !change.me && creds.me ? { ...change, me: creds.me } : change)
  }

  ask(available) {
    this.#wanted = available ? 'available' : 'unavailable'
    this.#requests += 1
    this.#sendPresence()
  }

  /** The link has logged in. */
  opened() {
    this.#open = true
  }

  /** Credentials changed. With a new name, Baileys has just sent a presence without a type, this time correctly. */
  credentialsChanged() {
    if (this.creds.me?.name === this.#name) return
    this.#name = this.creds.me?.name
    if (this.#open) this.#sendPresence()
  }

  // Without a name Baileys sends nothing. The name of a new device arrives within seconds, and the presence is sent with
  // it. An account that still has no name at the second request, an interval later, gets its presence without one: a
  // keep-alive must not depend on a name. If the socket is gone, `closed` says so.
  #sendPresence() {
    if (this.creds.me?.name || this.#requests < 2) {
      this.sock.sendPresenceUpdate(this.#wanted).catch(() => {})
      return
    }
    this.sock.ev.emit('connection.update', { isOnline: this.#wanted === 'available' }) // as sendPresenceUpdate does
    this.sock.sendNode({ tag: 'presence', attrs: { type: this.#wanted } }).catch(() => {})
  }
}
