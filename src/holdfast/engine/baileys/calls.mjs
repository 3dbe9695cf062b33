// Describes WhatsApp's signals about calls as the port's `CallSignal`. Media of calls are not handled: a linked device
// of Holdfast can see that somebody calls, and reject the call.

import { jidNormalizedUser } from 'baileys'

import { seconds } from './inbound.mjs'

const MOST_REMEMBERED = 200
const LONGEST_ID = 128
const ELSEWHERE = new Map([['timeout', 'missed'], ['accepted_elsewhere', 'answered'], ['rejected_elsewhere', 'rejected']])

export class Calls {
  #callers = new Map() // call id -> who calls, from the offer

  /**
   * @param plain   JID => the person's JID, by phone number where that is known
   * @param isMe    JID => whether it is this account
   * @param commit  [CallSignal] => void
   */
  constructor({ plain, isMe, commit }) {
    Object.assign(this, { plain, isMe, commit })
  }

  /** A `call` stanza arrived; Baileys acknowledges it afterwards. */
  observe(stanza) {
    const signal = this.#signal(stanza)
    if (signal) this.commit([signal])
  }

  #signal({ attrs, content }) {
    const child = Array.isArray(content) ? content[0] : undefined
    const callId = child?.attrs?.['call-id']
    const creator = child?.attrs?.['call-creator'] || child?.attrs?.from || attrs.from
    const kind = child && kindOf(child)
    if (!kind || !callId || callId.length > LONGEST_ID || !creator || this.isMe(creator)) return null
    return {
      callId,
      kind,
      ...this.#caller(callId, creator, child.attrs.caller_pn),
      creator: jidNormalizedUser(creator),
      video: child.content?.some?.(({ tag }) => tag === 'video') || undefined,
      group: child.attrs['group-jid'] || undefined,
      pushName: attrs.notify || undefined,
      atS: seconds(attrs.t) ?? 0,
      offline: Boolean(attrs.offline) || undefined
    }
  }

  // Only the offer has the phone number of a caller with a hidden id.
  #caller(callId, creator, phone) {
    const known = this.#callers.get(callId)
    if (known) return known
    const jid = jidNormalizedUser(creator)
    const found = { caller: this.plain(phone || jid), callerLid: jid.endsWith('@lid') ? jid : undefined }
    this.#callers.set(callId, found)
    if (this.#callers.size > MOST_REMEMBERED) this.#callers.delete(this.#callers.keys().next().value)
    return found
  }
}

// Other signals belong to a call that is being connected.
function kindOf({ tag, attrs }) {
  switch (tag) {
    case 'offer':
    case 'offer_notice':
      return 'offer'
    case 'accept':
      return 'answered'
    case 'reject':
      return 'rejected'
    case 'terminate':
      return ELSEWHERE.get(attrs.reason) ?? 'ended'
  }
}
