// From a `send` command to a message handed to Baileys: build it, prepare its recipient, show "typing", relay it.
//
// Only the last step waits in the link's lane, so a long upload or a slow query delays no other message. A message that
// can't be built a second time is committed before its frame is sent, and that committed message is used for retries.

import { createHmac } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'

import { isJidGroup, isJidStatusBroadcast, isPnUser, jidNormalizedUser, proto } from 'baileys'

import { mayBeOurs } from './bounds.mjs'
import { isMadeOnce, isMedia, kindOf, makeMessage, stanzaOptionsOf } from './content.mjs'

export class Outbound {
  /**
   * @param sock        Baileys' socket
   * @param creds       its credentials
   * @param lane        where a link's frames take turns
   * @param recipients  the link's Recipients
   * @param groups      the link's Groups
   * @param hosts       the link's MediaHosts
   * @param commitMade  ({whatsappId, made}) => void, begun before any later frame
   * @param plain       a chat's address => the same as Holdfast stores it
   * @param ask         request to Holdfast => promise of its answer
   * @param now         () => milliseconds since 1970
   */
  constructor({ sock, creds, lane, recipients, groups, hosts, commitMade, plain, ask, now = Date.now }) {
    Object.assign(this, { sock, creds, lane, recipients, groups, hosts, commitMade, plain, ask, now })
  }

  /**
   * Resolves when the message has been passed to the socket's gate: to how many people a group's message or a status goes,
   * if that is known.
   */
  async send({ whatsappId, to, content, made, typingMs }) {
    const message = made ? decode(made) : await this.#make(whatsappId, to, content)
    if (isJidStatusBroadcast(to)) return this.#post(whatsappId, to, message, content.audience)
    const recipient = await this.recipients.prepare(to)
    if (typingMs) await this.#type(recipient, content.audio?.voice ? 'recording' : 'composing', typingMs)
    const relay = { messageId: whatsappId, ...stanzaOptionsOf(content) }
    await this.lane.run(() => this.sock.relayMessage(recipient, message, relay))
    // The message has been sent: failures after that say nothing about it.
    if (typingMs) this.sock.sendPresenceUpdate('paused', recipient).catch(() => {})
    return this.groups.others(to)
  }

  // The account's own devices get it too, as from WhatsApp's own apps.
  async #post(whatsappId, to, message, audience) {
    const reached = await this.recipients.prepareAudience(audience)
    const statusJidList = [...reached, jidNormalizedUser(this.creds.me.id)]
    await this.lane.run(() => this.sock.relayMessage(to, message, { messageId: whatsappId, statusJidList }))
    return reached.length
  }

  /**
   * What was sent under the id of a message key. Only somebody who got the message may ask for it again: a member of the
   * group, or the chat that Holdfast sent it to.
   */
  async requestedAgain({ remoteJid, id, participant }) {
    if (!mayBeOurs(id)) return undefined
    // Baileys would send it as a message to this person alone, and in their chat, not as a status.
    if (isJidStatusBroadcast(remoteJid)) return undefined
    if (isJidGroup(remoteJid)) {
      await this.groups.get(remoteJid)
      if (!this.groups.hasMember(remoteJid, participant)) return undefined
    }
    const sent = await this.ask({ r: 'sent-content-wanted', chat: this.plain(remoteJid), whatsappId: id })
    return this.again(id, remoteJid, sent)
  }

  /** What was sent under an id, for a recipient who asks again; undefined when it is no longer known. */
  async again(whatsappId, chat, { content, made }) {
    if (made) return decode(made)
    if (!content || isMedia(kindOf(content))) return undefined
    return this.#build(whatsappId, chat, content)
  }

  async #make(whatsappId, chat, content) {
    const kind = kindOf(content)
    const uploaded = isMedia(kind) ? await this.#upload(kind, content[kind]) : undefined
    const message = await this.#build(whatsappId, chat, content, uploaded)
    if (isMadeOnce(kind)) this.commitMade({ whatsappId, made: encode(message) })
    return message
  }

  #upload(type, { file }) {
    return this.hosts.upload({ file, type, timeS: Math.floor(this.now() / 1000) })
  }

  async #build(whatsappId, chat, content, uploaded) {
    const known = isJidGroup(chat) ? await this.#ofGroup(chat, content) : content
    return makeMessage(known, { chat, secret: this.#secretOf(whatsappId), nowMs: this.now(), uploaded })
  }

  // What only the group itself tells: its timer, and whether it identifies its people by LID or by number. Senders of
  // quoted messages are identified in the same way.
  async #ofGroup(chat, content) {
    const { addressingMode, ephemeralDuration } = await this.groups.get(chat)
    const timed = { ...content, disappearingS: ephemeralDuration }
    const { replyTo, reaction } = content
    if (addressingMode !== 'lid' || (!replyTo?.sender && !reaction?.sender)) return timed
    return {
      ...timed,
      ...(replyTo && { replyTo: { ...replyTo, sender: await this.#lidOf(replyTo.sender) } }),
      ...(reaction && { reaction: { ...reaction, sender: await this.#lidOf(reaction.sender) } })
    }
  }

  async #lidOf(jid) {
    if (!isPnUser(jid)) return jid
    const lid = await this.sock.signalRepository.lidMapping.getLIDForPN(jid)
    return lid ? jidNormalizedUser(lid) : jid
  }

  // Derived, not random: a message that is sent again must be the same message.
  #secretOf(whatsappId) {
    return createHmac('sha256', this.creds.advSecretKey).update(`message secret of ${whatsappId}`).digest()
  }

  // Does not announce "available": only `Connectivity` does that.
  async #type(recipient, doing, typingMs) {
    await this.sock.sendPresenceUpdate(doing, recipient)
    await delay(typingMs)
  }
}

// Unpadded: Baileys adds random padding when it encrypts.
const encode = message => Buffer.from(proto.Message.encode(message).finish()).toString('base64')
const decode = made => proto.Message.decode(Buffer.from(made, 'base64'))
