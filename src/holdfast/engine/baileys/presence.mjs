// Keeps WhatsApp's idea of "available" to what was asked for last: an available device takes the phone's push
// notifications away. Baileys says more about it than it is asked to, and sometimes less.

export class Presence {
  #wanted = 'unavailable'
  #name
  #open = false

  constructor(sock, creds) {
    this.sock = sock
    this.creds = creds
    this.#name = creds.me?.name
    // Baileys takes each change of credentials that has no name in it for a change of name, and tells WhatsApp of it
    // by a presence without a type, which means "available".
    const { emit } = sock.ev
    sock.ev.emit = (event, change) =>
      emit(event, event === 'creds.update' && !change.me && creds.me ? { ...change, me: creds.me } : change)
  }

  ask(available) {
    this.#wanted = available ? 'available' : 'unavailable'
    this.#say()
  }

  /** The link is logged in. */
  opened() {
    this.#open = true
  }

  /** Credentials changed. With a new name Baileys has just sent a presence without a type, this time rightly. */
  credentialsChanged() {
    if (this.creds.me?.name === this.#name) return
    this.#name = this.creds.me?.name
    if (this.#open) this.#say()
  }

  // Without a name Baileys says nothing; it is said when the name comes. That the socket is gone is told by `closed`.
  #say() {
    this.sock.sendPresenceUpdate(this.#wanted).catch(() => {})
  }
}
