// Identifies an inbound ciphertext at the point where it is decrypted: its stanza, its sender and its content.
//
// Baileys sends its receipt before it emits `messages.upsert`, so the message must be known earlier than any event
// reports it: it belongs into the same commit as the ratchet change after which its ciphertext can't be decrypted
// again.

import { createHash } from 'node:crypto'

import {
  areJidsSameUser,
  decodeMessageNode,
  isJidBroadcast,
  isJidGroup,
  isJidNewsletter,
  isJidStatusBroadcast,
  isLidUser,
  isPnUser,
  jidDecode,
  jidNormalizedUser,
  proto,
  unpadRandomMax16
} from 'baileys'

import { bounded, boundedDecrypted, LIST_ITEMS } from './bounds.mjs'
import { describe, describeUnknown } from './description.mjs'
import { answerOf } from './sealed.mjs'

const NAME_CHARS = 128 // longer names are ignored

export const digest = bytes => createHash('sha256').update(bytes).digest('hex')

/** A stanza's time as whole Unix seconds; undefined when it is not valid. */
export function seconds(text) {
  const value = Number(text || undefined)
  return Number.isSafeInteger(value) ? value : undefined
}

/** The JID by phone number of a LID that `peek` (type, id) knows, or undefined. */
export function phoneJidOf(lid, peek) {
  const user = jidDecode(lid)?.user
  const phone = user && peek('lid-mapping', `${user}_reverse`)
  return phone ? `${phone}@s.whatsapp.net` : undefined
}

export class Inbound {
  // By object identity: Baileys passes the stanza's own buffer to the Signal repository.
  #stanzas = new WeakMap()

  /**
   * @param me         () => {id, lid} of this account
   * @param phonesOf   async LIDs => [{lid, pn}] for those with a known phone number, or null
   * @param answered   async (chat, id) => {secret, senders, content} of a message in that chat, or null
   */
  constructor({ me, phonesOf, answered = async () => null }) {
    Object.assign(this, { me, phonesOf, answered })
  }

  /** Remember the stanza of the ciphertexts in it. Called before Baileys sees the stanza. */
  note(stanza) {
    if (!Array.isArray(stanza.content)) return
    for (const { content } of stanza.content) {
      if (content instanceof Uint8Array) this.#stanzas.set(content, stanza)
    }
  }

  /** The port's `Decrypted` for one ciphertext. */
  async decrypted(ciphertext, plaintext) {
    const record = { ciphertextSha256: digest(ciphertext), plaintext: Buffer.from(plaintext).toString('base64') }
    const stanza = this.#stanzas.get(ciphertext)
    const message = stanza && (await this.#message(stanza, plaintext))
    return boundedDecrypted(message ? { ...record, message } : record, { isPeer: stanza?.attrs.category === 'peer' })
  }

  async #message(stanza, plaintext) {
    const decoded = decode(plaintext)
    const given = decoded && this.#isOwn(stanza) && givenByPhone(decoded)
    if (given) return this.#given(given)
    const said = decoded && (describe(decoded) ?? (isEmpty(decoded) ? describeUnknown(unpadRandomMax16(plaintext)) : null))
    if (!said) return null
    const where = await this.#where(stanza, decoded)
    if (!where) return null
    const senderLid = where.fromMe ? undefined : lidOf(stanza.attrs)
    const { from, participant } = stanza.attrs
    const open = await this.#opened(said, where, [senderLid, participant ?? from])
    return { ...where, senderLid, ...(await this.#byPhone(open)), ...envelope(stanza), offline: Boolean(stanza.attrs.offline) }
  }

  // An answer that is encrypted with a secret of the message that it answers.
  async #opened({ sealed, ...said }, { chat, sender, fromMe }, names) {
    if (!sealed) return said
    const { id, lid } = this.me()
    const senders = fromMe ? [id, lid] : [sender, ...names]
    const answered = await this.answered(chat, said.target)
    return { ...said, ...answerOf(sealed, { target: said.target, senders, answered }) }
  }

  /**
   * Did decryption yield no message at all? Then the sender is asked for it again, as for one that can't be decrypted.
   */
  isUnreadable({ message }, plaintext) {
    return !message && decode(plaintext) === null
  }

  /** The port's `Undecryptable` for the stanza of a ciphertext, or null when people would not read it anyway. */
  async undecryptable(ciphertext) {
    const stanza = this.#stanzas.get(ciphertext)
    return stanza ? this.unreadable(stanza) : null
  }

  /** The same for a stanza. */
  async unreadable(stanza) {
    if (stanza.attrs.category === 'peer') return null
    const where = await this.#where(stanza, {})
    return where && bounded({ chat: where.chat, sender: where.sender, ...envelope(stanza) })
  }

  // Our phone resends what WhatsApp did not deliver to this device, or what could not be decrypted here. Baileys asks
  // for it.
  async #given({ key, message, messageTimestamp, pushName }) {
    const said = message && describe(message)
    if (!said) return null
    const fromMe = Boolean(key.fromMe)
    const chat = isJidGroup(key.remoteJid) ? key.remoteJid : await this.#phone(key.remoteJid)
    const sender = fromMe ? jidNormalizedUser(this.me().id) : await this.#phone(key.participant, key.remoteJid)
    const sentAtS = seconds(messageTimestamp) ?? 0
    const open = await this.#opened(said, { chat, sender, fromMe }, [key.participant, key.remoteJid])
    return { chat, sender, fromMe, ...(await this.#byPhone(open)), whatsappId: key.id, sentAtS, pushName: pushName || undefined, offline: false }
  }

  #isOwn({ attrs }) {
    const { id, lid } = this.me()
    return attrs.category === 'peer' && [id, lid].some(own => own && areJidsSameUser(own, attrs.from))
  }

  // People are identified by phone number where it is known, also inside a message.
  async #byPhone(said) {
    const { mentions, replyTo } = said.content ?? {}
    if (!mentions && !replyTo?.sender) return said
    const content = { ...said.content }
    if (mentions) content.mentions = await this.#phones(mentions.slice(0, LIST_ITEMS))
    if (replyTo?.sender) content.replyTo = { ...replyTo, sender: await this.#phone(replyTo.sender) }
    return { ...said, content }
  }

  async #where(stanza, decoded) {
    const { attrs } = stanza
    const { id, lid } = this.me()
    const { key } = decodeMessageNode(stanza, id, lid ?? '').fullMessage
    if (isJidStatusBroadcast(attrs.from) || isJidNewsletter(attrs.from)) return null
    const fromMe = Boolean(key.fromMe)
    if (isJidGroup(attrs.from)) {
      const sender = fromMe ? jidNormalizedUser(id) : await this.#phone(attrs.participant, attrs.participant_pn)
      return { chat: attrs.from, sender, fromMe }
    }
    if (fromMe) {
      const destination = decoded.deviceSentMessage?.destinationJid
      const chat = await this.#phone(attrs.recipient, attrs.peer_recipient_pn, attrs.recipient_pn, destination)
      return { chat: chat || jidNormalizedUser(id), sender: jidNormalizedUser(id), fromMe }
    }
    // A message to a broadcast list that we are on belongs into the sender's chat.
    const sender = isJidBroadcast(attrs.from)
      ? await this.#phone(attrs.participant, attrs.participant_pn)
      : await this.#phone(attrs.from, attrs.sender_pn)
    return { chat: sender, sender, fromMe }
  }

  /**
   * The first of several names of one person that is a phone number; else the known number of its LID; else the name.
   */
  async #phone(...names) {
    const told = names.filter(Boolean)
    const phone = told.find(isPnUser)
    if (phone) return jidNormalizedUser(phone)
    const lid = told.find(isLidUser)
    return lid ? (await this.#phones([lid]))[0] : jidNormalizedUser(told[0])
  }

  // All are looked up in one query.
  async #phones(names) {
    const lids = [...new Set(names.filter(name => isLidUser(name) && name.length <= NAME_CHARS))]
    const known = (lids.length && (await this.phonesOf(lids))) || []
    const phones = new Map(known.map(({ lid, pn }) => [lid, pn]))
    return names.map(name => jidNormalizedUser(phones.get(name) ?? name))
  }
}

function givenByPhone({ protocolMessage }) {
  const results = protocolMessage?.peerDataOperationRequestResponseMessage?.peerDataOperationResult ?? []
  const found = results.map(result => result.placeholderMessageResendResponse?.webMessageInfoBytes).find(bytes => bytes?.length)
  const given = found && decodeAs(proto.WebMessageInfo, found)
  return given?.key?.id && given.key.remoteJid ? given : null
}

// The sender's hidden id, in any of the forms in which a stanza may contain it.
function lidOf({ from, participant, sender_lid, participant_lid }) {
  const lid = [participant, participant_lid, from, sender_lid].find(isLidUser)
  return lid && jidNormalizedUser(lid)
}

const envelope = ({ attrs }) => ({
  whatsappId: attrs.id,
  sentAtS: seconds(attrs.t) ?? 0,
  pushName: attrs.notify || undefined
})

// None of its fields is known to this version.
const isEmpty = decoded => Object.values(decoded).every(value => value == null)

const decode = plaintext => decodeAs(proto.Message, plaintext, unpadRandomMax16)

function decodeAs(type, bytes, unpad = same => same) {
  try {
    return type.decode(unpad(bytes))
  } catch {
    // Not a message. Baileys notices that by itself and answers WhatsApp; the bytes are stored anyway.
    return null
  }
}
