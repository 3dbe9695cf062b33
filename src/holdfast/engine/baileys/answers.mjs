// What WhatsApp says of messages that we sent: acks, receipts, and whether we may write to strangers, told in the
// port's words.

import { isJidGroup, jidDecode, jidNormalizedUser } from 'baileys'

import { mayBeOurs } from './bounds.mjs'
import { phoneJidOf, seconds } from './inbound.mjs'

// Errors in acks.
const REACH_OUT_LOCKED = '463'
const STALE_DEVICES = '479'

const RECEIPT_KINDS = { '': 'delivered', inactive: 'delivered', read: 'read', played: 'played' }

export class Answers {
  #unlocks = null // while WhatsApp is asked for the lock: what said meanwhile that there is none

  /**
   * @param sock        Baileys' socket
   * @param creds       its credentials
   * @param store       the link's KeyStore
   * @param recipients  the link's Recipients
   * @param groups      the link's Groups
   * @param report      report => void
   */
  constructor({ sock, creds, store, recipients, groups, report }) {
    Object.assign(this, { sock, creds, store, recipients, groups, report })
  }

  ack(attrs) {
    if (!mayBeOurs(attrs.id)) return
    const chat = this.plain(attrs.from)
    if (attrs.error === STALE_DEVICES) for (const jid of [attrs.from, chat]) this.recipients.doubt(jid)
    if (attrs.error === REACH_OUT_LOCKED) this.#askForLock()
    this.report({ r: 'ack', whatsappId: attrs.id, chat, atS: seconds(attrs.t), error: attrs.error })
  }

  /** Whether there was something to tell. */
  receipt(attrs, content) {
    const kind = RECEIPT_KINDS[attrs.type ?? '']
    if (!kind || this.#isMe(attrs.participant ?? attrs.from)) return false
    if (isJidGroup(attrs.from) && this.groups.hasMember(attrs.from, attrs.participant) === false) return false
    const items = Array.isArray(content) && Array.isArray(content[0]?.content) ? content[0].content : []
    this.report({
      r: 'receipt',
      whatsappIds: [attrs.id, ...items.map(item => item.attrs?.id)].filter(mayBeOurs),
      chat: this.plain(attrs.from),
      kind,
      participant: attrs.participant && this.plain(attrs.participant),
      atS: seconds(attrs.t)
    })
    return true
  }

  /** What WhatsApp says of a lock on messages to new contacts. */
  lock(told) {
    if (!told.isActive && this.#unlocks) return this.#unlocks.push(told)
    const untilS = told.isActive && told.timeEnforcementEnds ? Math.floor(told.timeEnforcementEnds / 1000) : undefined
    this.report({ r: 'reach-out-locked', active: told.isActive, untilS })
  }

  // Until when, WhatsApp tells only who asks; its answer comes as an event as well. Whoever was just refused and hears
  // in answer that there is no lock would try again at once, and be refused again; its end, told unasked, counts.
  async #askForLock() {
    if (this.#unlocks) return
    this.#unlocks = []
    const answer = await this.sock.fetchAccountReachoutTimelock().catch(() => undefined)
    const unasked = this.#unlocks.find(told => told !== answer)
    this.#unlocks = null
    if (unasked) this.lock(unasked)
  }

  /** A JID without its device, by phone number where that is known. */
  plain(jid) {
    const phone = jid?.endsWith('@lid') && phoneJidOf(jid, (type, id) => this.store.peek(type, id))
    return jidNormalizedUser(phone || jid)
  }

  #isMe(jid) {
    const user = jidDecode(jid)?.user
    return [this.creds.me?.id, this.creds.me?.lid].some(own => own && jidDecode(own)?.user === user)
  }
}
