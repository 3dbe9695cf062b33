// Links a device whose account requires a passkey. WhatsApp sends a challenge after the QR code was scanned or the
// pairing code typed; the account's owner signs it in a browser on web.whatsapp.com; this module sends the assertion to
// WhatsApp and passes the device's keys to the phone. It holds no passkey, signs nothing, and has no deadlines: Python
// has those.

import { createHash, createHmac, hkdfSync, createCipheriv, randomBytes } from 'node:crypto'

import { Curve, getBinaryNodeChild, proto } from 'baileys'

const { CompanionEphemeralIdentity, DeviceProps, EncryptedPairingRequest, PairingRequest, PrimaryEphemeralIdentity, ProloguePayload } = proto

const HANDOFF_MS = 5 * 60_000
const KEY_BYTES = 32
const IV_BYTES = 12
const CODE_BYTES = 5
const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTVWXYZ'

// -- the cryptography, step by step

const sha256 = bytes => createHash('sha256').update(bytes).digest()
const hkdf = (secret, salt, info) => Buffer.from(hkdfSync('sha256', secret, salt, info, KEY_BYTES))

/** Proves that this is the device whose code the phone saw. */
export const handoffKey = advSecret => hkdf(advSecret, Buffer.alloc(0), 'shortcake-passkey-handoff-v1')

export const handoffProof = (key, payload) => createHmac('sha256', key).update(payload).digest()

/** The device's commitment as bytes: an ephemeral key bound to WhatsApp's reference. */
export const ephemeralIdentity = ({ publicKey, deviceType, ref }) =>
  Buffer.from(CompanionEphemeralIdentity.encode({ publicKey, deviceType, ref }).finish())

export const prologuePayload = (identity, nonce) =>
  Buffer.from(
    ProloguePayload.encode({
      companionEphemeralIdentity: identity,
      commitment: { hash: sha256(Buffer.concat([identity, nonce])) }
    }).finish()
  )

/** The code that the phone shows as well: eight letters in two groups. */
export function comparisonCode({ nonce, primaryNonce, primaryKey }) {
  const mixed = sha256(Buffer.concat([nonce, primaryKey]))
  let bits = 0n
  for (let at = 0; at < CODE_BYTES; at += 1) bits = (bits << 8n) | BigInt(primaryNonce[at] ^ mixed[at])
  const letters = [35n, 30n, 25n, 20n, 15n, 10n, 5n, 0n].map(shift => ALPHABET[Number((bits >> shift) & 31n)]).join('')
  return `${letters.slice(0, 4)}-${letters.slice(4)}`
}

export const pairingKey = ({ shared, deviceType, ref }) =>
  hkdf(shared, `Companion Pairing ${deviceType} with ref ${ref}`, 'Pairing Information Encryption Key')

export function encryptedRequest({ key, iv, noiseKey, identityKey, advSecret }) {
  const cipher = createCipheriv('aes-256-gcm', key, iv)
  const request = PairingRequest.encode({ companionPublicKey: noiseKey, companionIdentityKey: identityKey, advSecret }).finish()
  const encryptedPayload = Buffer.concat([cipher.update(request), cipher.final(), cipher.getAuthTag()])
  return Buffer.from(EncryptedPairingRequest.encode({ encryptedPayload, iv }).finish())
}

/** WhatsApp's number for the kind of browser that Baileys claims to be. */
export const deviceTypeOf = browser => DeviceProps.PlatformType[browser.toUpperCase()] || DeviceProps.PlatformType.CHROME

// -- the ceremony

/** WhatsApp refused a step, or gave an unusable answer. `code` is the port's code for it. */
class CeremonyFailed extends Error {
  constructor(code, message) {
    super(message)
    this.code = code
  }
}

export class PasskeyCeremony {
  #handoff = null // {key, until}
  #exchange = null // the ephemeral key pair and nonce, once the assertion was sent
  #request = null // the pairing request that waits for the codes to be compared
  #isOver = false

  /**
   * @param query       Baileys' `sock.query`
   * @param creds       Baileys' credentials; `advSecretKey` is replaced
   * @param changed     changes => void: credentials changed and must be stored
   * @param deviceType  a PlatformType
   * @param report      report => void
   * @param now         () => milliseconds
   */
  constructor({ query, creds, changed, deviceType, report, now = () => performance.now() }) {
    Object.assign(this, { query, creds, changed, deviceType, report, now })
  }

  /** Is a person asked to sign, or WhatsApp expected to continue? Then used-up QR codes don't end the link. */
  get isUnderWay() {
    return this.#handoff !== null && !this.#isOver
  }

  listen(ws) {
    ws.on('CB:notification,type:passkey_prologue_request', node => this.#run(() => this.#begin(node)))
    ws.on('CB:notification,type:crsc_continuation', node => this.#run(() => this.#continue(node)))
  }

  /** The owner signed: `assertion`, already checked by Python. */
  answer(assertion) {
    return this.#run(() => this.#sendPrologue(assertion))
  }

  /** The owner compared the codes, and they match. */
  confirm() {
    return this.#run(() => this.#sendRequest())
  }

  async #run(step) {
    if (this.#isOver) return
    try {
      await step()
    } catch (error) {
      this.#isOver = true
      this.report({ r: 'passkey-failed', code: error.code ?? 'passkey-failed', detail: String(error.message).slice(0, 200) })
    }
  }

  async #begin(node) {
    if (this.creds.account) return // already linked: no ceremony
    this.#replaceSecret()
    const options = readOptions(node) ?? readOptions(await this.#ask('get', 'passkey_request_options'))
    if (!options) throw new CeremonyFailed('passkey-unreadable', 'WhatsApp gave a challenge that can’t be read')
    this.report({ r: 'passkey-requested', options })
  }

  // Only once: a repeated request is about the same code that the phone saw.
  #replaceSecret() {
    if (this.#handoff) return
    this.#handoff = { key: handoffKey(Buffer.from(this.creds.advSecretKey, 'base64')), until: this.now() + HANDOFF_MS }
    this.changed({ advSecretKey: randomBytes(KEY_BYTES).toString('base64') })
  }

  async #sendPrologue(assertion) {
    if (!this.#handoff) throw new CeremonyFailed('passkey-failed', 'no passkey was requested')
    const answer = await this.#ask('get', 'ref')
    const ref = textOf(getBinaryNodeChild(answer, 'ref'))
    if (!ref) throw new CeremonyFailed('passkey-failed', 'WhatsApp gave no reference')
    const pair = Curve.generateKeyPair()
    const nonce = randomBytes(KEY_BYTES)
    const identity = ephemeralIdentity({ publicKey: pair.public, deviceType: this.deviceType, ref })
    const payload = prologuePayload(identity, nonce)
    const isProven = this.now() < this.#handoff.until
    this.#exchange = { pair, nonce, ref, isProven }
    await this.#ask('set', 'passkey_prologue', [
      { tag: 'credential_id', attrs: {}, content: Buffer.from(assertion.rawId, 'base64url') },
      { tag: 'webauthn_assertion', attrs: {}, content: Buffer.from(JSON.stringify(assertion)) },
      { tag: 'prologue_payload', attrs: {}, content: payload },
      ...(isProven ? [{ tag: 'pairing_handoff_proof', attrs: {}, content: handoffProof(this.#handoff.key, payload) }] : [])
    ])
  }

  async #continue(node) {
    if (this.creds.account) return
    if (!this.#exchange) throw new CeremonyFailed('passkey-failed', 'WhatsApp continued before the owner had signed')
    const { pair, nonce, ref, isProven } = this.#exchange
    const { publicKey, nonce: primaryNonce } = readPrimary(node)
    await this.#ask('set', 'companion_nonce', nonce)
    const shared = Curve.sharedKey(pair.private, publicKey)
    this.#request = encryptedRequest({
      key: pairingKey({ shared, deviceType: this.deviceType, ref }),
      iv: randomBytes(IV_BYTES),
      noiseKey: this.creds.noiseKey.public,
      identityKey: this.creds.signedIdentityKey.public,
      advSecret: Buffer.from(this.creds.advSecretKey, 'base64')
    })
    const code = comparisonCode({ nonce, primaryNonce, primaryKey: publicKey })
    this.report({ r: 'passkey-continued', code, confirm: !isProven })
    if (isProven) await this.#sendRequest()
  }

  async #sendRequest() {
    const request = this.#request
    if (!request) throw new CeremonyFailed('passkey-failed', 'there is no code to compare yet')
    this.#request = null
    await this.#ask('set', 'encrypted_pairing_request', request)
  }

  async #ask(type, tag, content) {
    const stanza = { tag: 'iq', attrs: { to: 's.whatsapp.net', type, xmlns: 'md' }, content: [{ tag, attrs: {}, content }] }
    const answer = await this.query(stanza).catch(error => {
      throw new CeremonyFailed('passkey-refused', `WhatsApp refused ${tag}: ${error.message} (${error.data ?? error.output?.statusCode})`)
    })
    if (!answer) throw new CeremonyFailed('passkey-timeout', `WhatsApp did not answer ${tag}`)
    return answer
  }
}

// -- reading WhatsApp's stanzas

const textOf = node => (node?.content?.length ? Buffer.from(node.content).toString('utf8') : undefined)

function readOptions(node) {
  try {
    const options = JSON.parse(textOf(getBinaryNodeChild(node, 'passkey_request_options')))
    return typeof options?.challenge === 'string' && options.challenge ? options : undefined
  } catch {
    return undefined
  }
}

function readPrimary(node) {
  const content = getBinaryNodeChild(node, 'primary_ephemeral_identity')?.content
  const { publicKey, nonce } = PrimaryEphemeralIdentity.decode(content ?? Buffer.alloc(0))
  if (publicKey?.length !== KEY_BYTES || nonce?.length !== KEY_BYTES) {
    throw new CeremonyFailed('passkey-failed', 'WhatsApp gave no key and nonce of 32 bytes')
  }
  return { publicKey: Buffer.from(publicKey), nonce: Buffer.from(nonce) }
}
