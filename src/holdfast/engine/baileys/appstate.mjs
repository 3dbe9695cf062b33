// What the account's owner and its other devices set: saved names, archived, muted and pinned chats, labels, stars.
//
// WhatsApp shares these settings between the devices of an account as "app state", which Baileys fetches, decrypts and
// verifies. Holdfast stores them. A new version of a collection is committed together with the changes that it brought:
// WhatsApp sends a change only once, so a version that is durable without its changes would lose them.

import { isJidGroup, isLidUser, jidNormalizedUser } from 'baileys'

export const VERSIONS = 'app-state-sync-version' // the type of Baileys' keys with a version in them
export const COLLECTIONS = ['critical_block', 'critical_unblock_low', 'regular_high', 'regular_low', 'regular']
const CHANGES_AT_ONCE = 500 // in one commit, so that it fits into a line of the pipe
const FOREVER_S = -1

/** Changes of the account, by the event in which Baileys reports them. Other content of the events is ignored. */
const TRANSLATED = {
  'chats.update': updates => updates.flatMap(chatChange),
  'contacts.upsert': contacts => contacts.map(contactChange),
  'labels.edit': ({ id, name, color, deleted }) => [
    { t: 'label', label: String(id), name: deleted ? undefined : (name ?? ''), color: color ?? undefined }
  ],
  'labels.association': ({ type, association: { chatId, labelId, messageId } }) => [
    { t: 'labelled', label: String(labelId), chat: chatId, whatsappId: messageId, on: type === 'add' }
  ],
  'messages.update': updates =>
    updates
      .filter(({ update }) => typeof update?.starred === 'boolean')
      .map(({ key, update }) => ({ t: 'starred', chat: key.remoteJid, whatsappId: key.id, on: update.starred }))
}

// Nothing else listens to these, and Baileys would keep them in a buffer.
const NOT_PASSED_ON = new Set(['chats.update', 'contacts.upsert', 'labels.edit', 'labels.association'])

export class AppState {
  #changes = []
  #versions = {} // id -> text: not committed yet
  #scheduled = false
  #closed = false

  /**
   * @param commit    ({changes, versions: {id: text}}) => void
   * @param phonesOf  async LIDs => [{lid, pn}] for those with a known phone number, or null
   */
  constructor({ commit, phonesOf }) {
    Object.assign(this, { commit, phonesOf })
  }

  /** Read the events of a socket as Baileys emits them, before it buffers and merges them. */
  listen(ev) {
    const { emit } = ev
    ev.emit = (event, data) => {
      this.#take(event, data)
      return NOT_PASSED_ON.has(event) || emit(event, data)
    }
  }

  /** New versions of collections. The changes that belong to them are reported before the event loop runs again. */
  hold(versions) {
    Object.assign(this.#versions, versions)
    this.#schedule()
  }

  close() {
    this.#closed = true
  }

  #take(event, data) {
    if (!Object.hasOwn(TRANSLATED, event)) return
    const changes = TRANSLATED[event](data)
    if (!changes.length) return
    this.#changes.push(...changes)
    this.#schedule()
  }

  #schedule() {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#flush().catch(() => {})
    })
  }

  async #flush() {
    const [changes, versions] = [this.#changes, this.#versions]
    this.#changes = []
    this.#versions = {}
    const known = await this.#byPhone(changes)
    if (this.#closed) return
    while (known.length > CHANGES_AT_ONCE) this.commit({ changes: known.splice(0, CHANGES_AT_ONCE), versions: {} })
    this.commit({ changes: known, versions })
  }

  // People are identified by phone number where it is known, as in messages.
  async #byPhone(changes) {
    const lids = [...new Set(changes.map(({ chat }) => chat).filter(isLidUser))]
    const found = (lids.length && (await this.phonesOf(lids))) || []
    const phones = new Map(found.map(({ lid, pn }) => [lid, jidNormalizedUser(pn)]))
    return changes.map(change => (phones.has(change.chat) ? { ...change, chat: phones.get(change.chat) } : change))
  }
}

function chatChange({ id, archived, muteEndTime, pinned, unreadCount, ephemeralExpiration, ephemeralSettingTimestamp }) {
  const change = {
    archived: archived ?? undefined,
    mutedUntilS: muteEndTime === undefined ? undefined : secondsOf(muteEndTime),
    pinnedAtS: pinned === undefined ? undefined : secondsOf(pinned),
    // Baileys also counts new messages here. -1: somebody marked the chat as unread.
    unread: unreadCount === -1 ? true : unreadCount === 0 || unreadCount === null ? false : undefined,
    disappearingS: ephemeralExpiration === undefined ? undefined : Number(ephemeralExpiration ?? 0),
    timerSetAtS: ephemeralExpiration === undefined || !ephemeralSettingTimestamp ? undefined : secondsOf(ephemeralSettingTimestamp)
  }
  const isChange = Object.values(change).some(value => value !== undefined)
  return isChange && typeof id === 'string' ? [{ t: 'chat', chat: isJidGroup(id) ? id : jidNormalizedUser(id), ...change }] : []
}

const contactChange = ({ id, name, username, lid, phoneNumber }) => ({
  t: 'contact',
  chat: phoneNumber ? jidNormalizedUser(phoneNumber) : id,
  lid: lid ?? (isLidUser(id) ? id : undefined),
  savedName: name ?? undefined,
  username: username ?? undefined
})

// WhatsApp's times of settings are in milliseconds; some are in seconds, and "for ever" is a negative one.
function secondsOf(time) {
  const value = Number(time ?? 0)
  if (!Number.isFinite(value)) return 0
  if (value < 0 || value >= 2 ** 63) return FOREVER_S
  return Math.floor(value > 1e11 ? value / 1000 : value)
}
