/**
 * Asks WhatsApp for pairing codes, one after another, and waits for its answer.
 *
 * `requestPairingCode` of Baileys sends the request and returns the code without looking at the answer: people would be
 * shown a code that WhatsApp refused (400, 429), and type it in vain.
 */

export class PairingCodes {
  #last = Promise.resolve()
  #shown = Promise.withResolvers()

  /**
   * @param sock    () => Baileys' socket, which exists when a QR code was shown
   * @param report  report => void
   */
  constructor({ sock, report }) {
    Object.assign(this, { sock, report })
  }

  /** A QR code was shown: before that, WhatsApp does not expect a new device. */
  qrShown() {
    this.#shown.resolve()
  }

  /** Report the code for a phone number, or why there is none; `refused` is WhatsApp's own code. */
  async answer({ request, phone }) {
    try {
      await this.#shown.promise
      this.report({ r: 'pairing-code', request, code: await this.#ask(phone) })
    } catch (error) {
      this.report({ r: 'pairing-code', request, error: error.message, refused: error.refused })
    }
  }

  #ask(phone) {
    const code = this.#last.then(() => askOne(this.sock(), phone))
    this.#last = code.catch(() => {})
    return code
  }
}

async function askOne(sock, phone) {
  const answer = sock.waitForMessage(tagAfter(sock.generateMessageTag()))
  answer.catch(() => {}) // a link that closes rejects it, also while the request below fails
  const code = await sock.requestPairingCode(phone)
  const node = await answer
  if (!node) throw new Error('WhatsApp did not answer in time; try again')
  if (node.attrs.type === 'error') throw refusal(node)
  return code
}

/** The id of the request that Baileys sends next: a counter behind a prefix (source: Socket/socket.js). */
function tagAfter(tag) {
  return tag.replace(/\d+$/, number => Number(number) + 1)
}

function refusal(node) {
  const attrs = Array.isArray(node.content) ? node.content.find(({ tag }) => tag === 'error')?.attrs : undefined
  const error = new Error(attrs?.text ?? 'refused')
  error.refused = Number(attrs?.code) || 0
  return error
}
