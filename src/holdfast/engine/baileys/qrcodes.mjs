// The QR codes of a link, and their end. Baileys ends a link with 408 when its codes are used up, whatever else is
// going on: even while the owner of the account signs with a passkey, for which WhatsApp gives ten minutes. Spare
// references keep Baileys' timer busy for longer than that; they are never shown, and their turn means that the real
// codes are used up.

const LONGER_THAN_ANY_CEREMONY_MS = 11 * 60_000
const FIRST_MS = 60_000
const NEXT_MS = 20_000 // how long Baileys shows the first and each further code, as WhatsApp Web does
const SPARE = 'holdfast-spare'
const SPARES = Math.ceil(LONGER_THAN_ANY_CEREMONY_MS / NEXT_MS)

export class QrCodes {
  /**
   * @param isBusy    () => whether the link is past showing codes
   * @param shown     (qr, validMs) => void; validMs: how long until Baileys shows the next one
   * @param usedUp    () => void
   */
  constructor({ isBusy, shown, usedUp }) {
    this.validMs = FIRST_MS
    Object.assign(this, { isBusy, shown, usedUp })
  }

  /** Before Baileys handles `pair-device`. */
  lengthen(stanza) {
    const offer = stanza.content.find(({ tag }) => tag === 'pair-device')
    const spares = Array.from({ length: SPARES }, () => ({ tag: 'ref', attrs: {}, content: Buffer.from(SPARE) }))
    offer.content = [...offer.content, ...spares]
  }

  /** Baileys has another code. */
  next(qr) {
    const { validMs } = this
    this.validMs = NEXT_MS
    if (this.isBusy()) return
    if (qr.includes(SPARE)) this.usedUp()
    else this.shown(qr, validMs)
  }
}
