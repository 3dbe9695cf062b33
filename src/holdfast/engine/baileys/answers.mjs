// Turns WhatsApp's answers to messages that we sent, acks and receipts, into reports of the engine port.

import { isJidGroup, jidDecode, jidNormalizedUser } from 'baileys'

import { mayBeOurs } from './bounds.mjs'
import { phoneJidOf, seconds } from './inbound.mjs'

const STALE_DEVICES = '479' // error in acks

// A Map: the type of a receipt is untrusted text, and an object has members such as `constructor`.
const RECEIPT_KINDS = new Map([['', 'delivered'], ['inactive', 'delivered'], ['read', 'read'], ['played', 'played']])
// Receipts of this account's other devices, `-self` while the account shows nobody that it has read something.
const READ_KINDS = new Set(['read', 'read-self', 'played', 'played-self'])
const MOST_IDS = 500

export class Answers {
  /**
   * @param sock        Baileys' socket
   * @param creds       its credentials
   * @param store       the link's KeyStore
   * @param recipients  the link's Recipients
   * @param groups      the link's Groups
   * @param locks       the link's NewChatLocks
   * @param report      report => void
   */
  constructor({ sock, creds, store, recipients, groups, locks, report }) {
    Object.assign(this, { sock, creds, store, recipients, groups, locks, report })
  }

  ack(attrs) {
    if (!mayBeOurs(attrs.id)) return
    const chat = this.plain(attrs.from)
    if (attrs.error === STALE_DEVICES) for (const jid of [attrs.from, chat]) this.recipients.invalidate(jid)
    this.locks.refused(attrs.error)
    this.report({ r: 'ack', whatsappId: attrs.id, chat, atS: seconds(attrs.t), error: attrs.error })
  }

  /** Reports the receipt; returns whether there was anything to report. */
  receipt(attrs, content) {
    const kind = RECEIPT_KINDS.get(attrs.type ?? '')
    if (!kind || this.isMe(attrs.participant ?? attrs.from)) return false
    if (isJidGroup(attrs.from) && this.groups.hasMember(attrs.from, attrs.participant) === false) return false
    this.report({
      r: 'receipt',
      whatsappIds: idsOf(attrs, content).filter(mayBeOurs),
      chat: this.plain(attrs.from),
      kind,
      participant: attrs.participant && this.plain(attrs.participant),
      atS: seconds(attrs.t)
    })
    return true
  }

  /** The change that another device of this account has read messages of a chat; null for any other receipt. */
  readElsewhere(attrs, content) {
    if (!READ_KINDS.has(attrs.type) || !this.isMe(attrs.participant ?? attrs.from)) return null
    const chat = isJidGroup(attrs.from) ? attrs.from : attrs.recipient
    return chat ? { t: 'read', chat: this.plain(chat), whatsappIds: idsOf(attrs, content).slice(-MOST_IDS) } : null
  }

  /** A JID without its device, by phone number where that is known. */
  plain(jid) {
    const phone = jid?.endsWith('@lid') && phoneJidOf(jid, (type, id) => this.store.peek(type, id))
    return jidNormalizedUser(phone || jid)
  }

  /** Whether it is a device of this account. */
  isMe(jid) {
    const user = jidDecode(jid)?.user
    return [this.creds.me?.id, this.creds.me?.lid].some(own => own && jidDecode(own)?.user === user)
  }
}

function idsOf({ id }, content) {
  const items = Array.isArray(content) && Array.isArray(content[0]?.content) ? content[0].content : []
  return [id, ...items.map(item => item.attrs?.id)].filter(each => typeof each === 'string')
}
