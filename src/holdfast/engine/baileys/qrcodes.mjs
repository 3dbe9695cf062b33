// The QR codes of a link, and their end. Baileys ends a link with 408 when its codes are used up, whatever else goes on:
// also while the owner of the account signs with a passkey, for which WhatsApp gives ten minutes. Spare references keep
// Baileys' timer busy for longer than that; they are never shown, and say when the real codes are used up.

const LONGER_THAN_ANY_CEREMONY_MS = 11 * 60_000
const BAILEYS_OWN_MS = 20_000
const SPARE = 'holdfast-spare'

export class QrCodes {
  /**
   * @param lastsMs   how long Baileys lets a code live; none: as it sees fit
   * @param isBusy    () => whether the link has other things to do than to show codes
   * @param shown     qr => void
   * @param usedUp    () => void
   */
  constructor({ lastsMs, isBusy, shown, usedUp }) {
    this.spares = Math.ceil(LONGER_THAN_ANY_CEREMONY_MS / (lastsMs || BAILEYS_OWN_MS))
    Object.assign(this, { isBusy, shown, usedUp })
  }

  /** Before Baileys handles `pair-device`. */
  lengthen(stanza) {
    const offer = stanza.content.find(({ tag }) => tag === 'pair-device')
    const spares = Array.from({ length: this.spares }, () => ({ tag: 'ref', attrs: {}, content: Buffer.from(SPARE) }))
    offer.content = [...offer.content, ...spares]
  }

  /** Baileys has another code. */
  next(qr) {
    if (this.isBusy()) return
    if (qr.includes(SPARE)) this.usedUp()
    else this.shown(qr)
  }
}
