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

import { bounded, boundedDecrypted, EMPTY_PLAINTEXT, LIST_ITEMS } from './bounds.mjs'
import { describe, describeUnknown, timerOf } from './description.mjs'
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
  return phone && isOwner(user, peek('lid-mapping', phone)) ? `${phone}@s.whatsapp.net` : undefined
}

/**
 * Of the mappings `[{lid, pn}]` those that still hold. Baileys keeps the mapping of a hidden id whose number was given
 * to another account; the number's own mapping tells.
 *
 * @param get  (type, ids) => Promise of stored keys by id
 */
export async function currentMappings(found, get) {
  if (!found?.length) return found
  const userOf = jid => jidDecode(jid)?.user
  const owners = await get('lid-mapping', [...new Set(found.map(({ pn }) => userOf(pn)))])
  return found.filter(({ lid, pn }) => isOwner(userOf(lid), owners[userOf(pn)]))
}

const isOwner = (user, owner) => owner == null || owner === user

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
    const decoded = stanza && decode(plaintext)
    const message = decoded && (await this.#message(stanza, plaintext, decoded))
    const timer = decoded && (await this.#timer(stanza, decoded))
    const decrypted = { ...record, ...(message && { message }), ...(timer && { timer }) }
    return boundedDecrypted(decrypted, { isPeer: stanza?.attrs.category === 'peer' })
  }

  async #message(stanza, plaintext, decoded) {
    const resent = this.#isOwn(stanza) && resentByPhone(decoded)
    if (resent) return this.#resent(resent)
    const parsed = describe(decoded) ?? (isEmpty(decoded) ? describeUnknown(unpadRandomMax16(plaintext)) : null)
    if (!parsed) return null
    const where = await this.#where(stanza, decoded)
    if (!where) return null
    return this.#described(stanza, where, parsed)
  }

  // The change of a chat with one person that a message tells. Groups have their timer from WhatsApp. A message counts as
  // evidence of its own time unless it says when the timer was set.
  async #timer(stanza, decoded) {
    const found = timerOf(decoded)
    const { chat, marks } = (found && (await this.#where(stanza, decoded))) ?? {}
    if (!isPerson(chat) || marks) return null
    const sentAtS = seconds(stanza.attrs.t) ?? 0
    return { t: 'chat', chat, disappearingS: found.disappearingS, timerSetAtS: Math.min(found.setAtS ?? sentAtS, sentAtS) }
  }

  async #described(stanza, { marks, ...where }, parsed) {
    const senderLid = where.fromMe ? undefined : lidOf(stanza.attrs)
    const { from, participant } = stanza.attrs
    const { content, ...open } = await this.#byPhone(await this.#opened(parsed, where, [senderLid, participant ?? from]))
    const all = { ...content, ...marks }
    const described = { ...where, senderLid, ...open, ...envelope(stanza), offline: Boolean(stanza.attrs.offline) }
    return Object.keys(all).length ? { ...described, content: all } : described
  }

  /**
   * The port's `Decrypted` for a stanza whose content is not encrypted, as the posts of channels are; null for any other
   * stanza. Baileys acknowledges these without asking the Signal repository.
   */
  async unencrypted(stanza) {
    const { from, id } = stanza.attrs
    const content = contentOf(stanza, 'plaintext')
    const decoded = content && decodeAs(proto.Message, content)
    if (!decoded) return null
    const parsed = describe(decoded) ?? (isEmpty(decoded) ? describeUnknown(content) : null)
    const where = parsed && (await this.#where(stanza, decoded))
    if (!where) return null
    // A channel may post the same text twice.
    const ciphertextSha256 = digest(Buffer.concat([Buffer.from(`${from}\n${id}\n`), content]))
    // Only channels write unencrypted: anything else was not necessarily written by its sender.
    const marks = isJidNewsletter(from) ? where.marks : { ...where.marks, unencrypted: true }
    const message = await this.#described(stanza, { ...where, marks }, parsed)
    return boundedDecrypted({ ciphertextSha256, plaintext: EMPTY_PLAINTEXT, message })
  }

  /** Whether a stanza has unencrypted content that is not a message. */
  isDamaged(stanza) {
    const content = contentOf(stanza, 'plaintext')
    return Boolean(content) && decodeAs(proto.Message, content) === null
  }

  // An answer that is encrypted with a secret of the message that it answers.
  async #opened({ sealed, ...parsed }, { chat, sender, fromMe }, names) {
    if (!sealed) return parsed
    const { id, lid } = this.me()
    const senders = fromMe ? [id, lid] : [sender, ...names]
    const answered = await this.answered(chat, parsed.target)
    return { ...parsed, ...answerOf(sealed, { target: parsed.target, senders, answered }) }
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
  async #resent({ key, message, messageTimestamp, pushName }) {
    const parsed = message && describe(message)
    if (!parsed) return null
    const fromMe = Boolean(key.fromMe)
    const chat = isJidGroup(key.remoteJid) ? key.remoteJid : await this.#phone(key.remoteJid)
    const sender = fromMe ? jidNormalizedUser(this.me().id) : await this.#phone(key.participant, key.remoteJid)
    const sentAtS = seconds(messageTimestamp) ?? 0
    const open = await this.#opened(parsed, { chat, sender, fromMe }, [key.participant, key.remoteJid])
    return { chat, sender, fromMe, ...(await this.#byPhone(open)), whatsappId: key.id, sentAtS, pushName: pushName || undefined, offline: false }
  }

  /** A message of the history that the phone sends, as the port's `InboundMessage`; null when it says nothing. */
  async fromHistory(info) {
    return info.key?.id && info.key.remoteJid ? this.#resent({ ...info, message: info.message ?? null }) : null
  }

  #isOwn({ attrs }) {
    const { id, lid } = this.me()
    return attrs.category === 'peer' && [id, lid].some(own => own && areJidsSameUser(own, attrs.from))
  }

  // People are identified by phone number where it is known, also inside a message.
  async #byPhone(parsed) {
    const { mentions, replyTo } = parsed.content ?? {}
    if (!mentions && !replyTo?.sender) return parsed
    const content = { ...parsed.content }
    if (mentions) content.mentions = await this.#phones(mentions.slice(0, LIST_ITEMS))
    if (replyTo?.sender) content.replyTo = { ...replyTo, sender: await this.#phone(replyTo.sender) }
    return { ...parsed, content }
  }

  async #where(stanza, decoded) {
    const { attrs } = stanza
    const { id, lid } = this.me()
    const { key } = decodeMessageNode(stanza, id, lid ?? '').fullMessage
    if (isJidNewsletter(attrs.from)) return { chat: attrs.from, sender: attrs.from, fromMe: false, ...postOf(attrs) }
    const fromMe = Boolean(key.fromMe) || [id, lid].some(own => own && attrs.participant && areJidsSameUser(own, attrs.participant))
    if (isJidStatusBroadcast(attrs.from)) {
      const sender = fromMe ? jidNormalizedUser(id) : await this.#phone(attrs.participant, attrs.participant_pn)
      return { chat: attrs.from, sender, fromMe }
    }
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
    if (isJidBroadcast(attrs.from)) {
      const sender = await this.#phone(attrs.participant, attrs.participant_pn)
      return { chat: sender, sender, fromMe, marks: { broadcast: true } }
    }
    const sender = await this.#phone(attrs.from, attrs.sender_pn)
    return { chat: sender, sender, fromMe }
  }

  /**
   * The first of several names of one person that is a phone number; else the known number of its LID; else the name.
   */
  async #phone(...names) {
    const present = names.filter(Boolean)
    const phone = present.find(isPnUser)
    if (phone) return jidNormalizedUser(phone)
    const lid = present.find(isLidUser)
    return lid ? (await this.#phones([lid]))[0] : jidNormalizedUser(present[0])
  }

  // All are looked up in one query.
  async #phones(names) {
    const lids = [...new Set(names.filter(name => isLidUser(name) && name.length <= NAME_CHARS))]
    const known = (lids.length && (await this.phonesOf(lids))) || []
    const phones = new Map(known.map(({ lid, pn }) => [lid, pn]))
    return names.map(name => jidNormalizedUser(phones.get(name) ?? name))
  }
}

function resentByPhone({ protocolMessage }) {
  const results = protocolMessage?.peerDataOperationRequestResponseMessage?.peerDataOperationResult ?? []
  const found = results.map(result => result.placeholderMessageResendResponse?.webMessageInfoBytes).find(bytes => bytes?.length)
  const resent = found && decodeAs(proto.WebMessageInfo, found)
  return resent?.key?.id && resent.key.remoteJid ? resent : null
}

// The number of a post within its channel, which reactions to it need.
const postOf = ({ server_id: serverId }) => (/^\d{1,19}$/.test(serverId ?? '') ? { marks: { serverId } } : {})

function contentOf({ content }, wanted) {
  const child = Array.isArray(content) && content.find(({ tag, content: bytes }) => tag === wanted && bytes instanceof Uint8Array)
  return child ? child.content : null
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

const isPerson = jid => Boolean(isPnUser(jid) || isLidUser(jid))

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
