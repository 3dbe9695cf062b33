// The account's history that the phone sends after linking, or on request: read in pieces, and reported to Holdfast in
// batches. Each batch waits until the one before is durable.
//
// Baileys would hold a part of the history in memory as a whole, several times over. It gets an empty one instead, after
// which it fetches the account's settings as usual. What Baileys keeps of a history is kept here as well: which hidden
// ids belong to which numbers, and privacy tokens. A history that nobody wants is left to Baileys.

import { setTimeout as delay } from 'node:timers/promises'
import { deflateSync } from 'node:zlib'

import { isJidGroup, isLidUser, proto } from 'baileys'

import { bounded, MESSAGE_CHARS } from './bounds.mjs'
import { BadHistory, inflated, readHistory } from './history_stream.mjs'
import { digest } from './inbound.mjs'
import { Lane } from './lane.mjs'
import { PhoneTimedOut } from './refusals.mjs'

const EMPTY = deflateSync(Buffer.alloc(0))
const MOST_COMPRESSED_BYTES = 32 * 1024 * 1024
const MESSAGES_AT_ONCE = 10 // in one commit: frames of the link, and other companies, wait for it
const CHARS_AT_ONCE = 500_000
const CHANGES_AT_ONCE = 200
const MAPPINGS_AT_ONCE = 200
const MOST_PENDING = 100
const MOST_UNREAD = 200 // parts that can be read again
const MOST_PART_BYTES = 64 * 1024 // of a part that is kept in the credentials until it is read
const MOST_UNREAD_BYTES = 1024 * 1024 // of all parts that are kept
const MOST_ATTEMPTS = 3
const { FULL, ON_DEMAND } = proto.HistorySync.HistorySyncType
const ON_DEMAND_DEADLINE_MS = 18_000

// One part at a time in the whole process, whatever the number of links.
const lane = new Lane()

export class History {
  #closed = false
  #ended = Promise.withResolvers()
  #reads = new Set()
  #asked = new Map() // id of the request -> {resolve, messages}

  /**
   * @param wanted    'none', 'recent' or 'full'
   * @param hosts     () => the link's MediaHosts
   * @param inbound   the link's Inbound
   * @param commit    content => seq
   * @param durable   async seq => void
   * @param learn     async [{lid, pn}] => void: stores which hidden ids belong to which numbers
   * @param tokens    async [conversation] => void: stores their privacy tokens
   * @param ledger    {get: () => {parts, percent?, lost}, set}: durable. `parts` were announced and are not stored yet,
   *                  `lost` counts those that were given up, `percent` is how much the phone says it has sent
   */
  constructor({ wanted = 'none', hosts, inbound, commit, durable, learn, tokens, ledger }) {
    Object.assign(this, { wanted, hosts, inbound, commit, durable, learn, tokens, ledger })
  }

  /** The port's `HistoryProgress`. */
  get progress() {
    const { parts, percent, lost } = this.ledger.get()
    const retrying = parts.filter(({ failed }) => failed).length
    return { percent, reading: parts.length - retrying, retrying, lost }
  }

  /** The link is open: read the parts again that failed, or were being read when the link before ended. */
  resume() {
    const { parts, percent, lost } = this.ledger.get()
    if (!parts.length && percent === undefined && !lost) return
    const again = parts.map(part => ({ ...part, attempts: part.attempts + 1, failed: undefined }))
    const left = again.filter(({ attempts }) => attempts < MOST_ATTEMPTS)
    this.#note({ parts: left, lost: lost + again.length - left.length })
    for (const part of left) this.#start(part)
  }

  /**
   * Baileys asks whether it should process a history: yes, but an empty one, or the whole if nobody wants it here.
   * Baileys also asks with an empty notification whether there will be any.
   */
  take = notification => {
    const { syncType, mediaKey, directPath, fileSha256, progress, peerDataRequestSessionId, initialHistBootstrapInlinePayload: inline } = notification
    if (this.wanted === 'none' && syncType !== ON_DEMAND) return syncType !== FULL // as Baileys decides itself
    if (!directPath && !inline?.length) return true
    notification.initialHistBootstrapInlinePayload = EMPTY
    const part = { syncType, mediaKey, directPath, fileSha256, inline, request: peerDataRequestSessionId }
    part.id = digest(Buffer.from(fileSha256 ?? inline))
    if (syncType !== ON_DEMAND) this.#announce(part, progress ?? undefined)
    this.#start(part)
    return true
  }

  /** Resolves when no part is being read. */
  async settled() {
    await Promise.all(this.#reads)
  }

  // A part whose content would not fit into the credentials can't be read again. Credentials that are too long for a
  // commit would end the link, and WhatsApp would deliver the announcement again.
  #announce(part, progress) {
    const { parts, percent } = this.ledger.get()
    const others = parts.filter(({ id }) => id !== part.id)
    const fits = bytesOf(part) <= MOST_PART_BYTES && sum(others.map(bytesOf)) + bytesOf(part) <= MOST_UNREAD_BYTES
    const { id, syncType } = part
    const entry = fits ? { ...part, attempts: 0 } : { id, syncType, attempts: MOST_ATTEMPTS - 1 }
    this.#note({ parts: others.length < MOST_UNREAD ? [...others, entry] : others, percent: progress ?? percent })
  }

  #start(part) {
    const read = this.#read(part).finally(() => this.#reads.delete(read))
    this.#reads.add(read)
  }

  // A part that could not be fetched is read again at the next link. One that can't be decoded never could.
  async #read(part) {
    let error
    try {
      await lane.run(() => this.#store(part))
    } catch (caught) {
      error = caught
      this.#settle(part, 0)
    }
    if (this.#closed || part.syncType === ON_DEMAND) return
    const { parts, lost } = this.ledger.get()
    const others = parts.filter(({ id }) => id !== part.id)
    const entry = parts.find(({ id }) => id === part.id)
    const isOver = error instanceof BadHistory || entry?.attempts >= MOST_ATTEMPTS - 1
    if (!error) this.#note({ parts: others })
    else if (isOver || !entry) this.#note({ parts: others, lost: lost + 1 })
    else this.#note({ parts: [...others, { ...entry, failed: true }] })
  }

  #note(facts) {
    this.ledger.set({ ...this.ledger.get(), ...facts })
    this.commit({ historyProgress: this.progress })
  }

  /** Ask the phone for messages of a chat before the oldest one that is known; resolves to how many it sent. */
  async ask(sock, { chat, oldest, count }) {
    const { promise, resolve, reject } = Promise.withResolvers()
    const key = { remoteJid: chat, id: oldest.id, fromMe: oldest.fromMe }
    const request = await sock.fetchMessageHistory(count, key, oldest.atS * 1000)
    const timer = setTimeout(() => reject(new PhoneTimedOut('the phone did not answer')), ON_DEMAND_DEADLINE_MS)
    this.#asked.set(request, { resolve })
    while (this.#asked.size > MOST_PENDING) this.#asked.delete(this.#asked.keys().next().value)
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      this.#asked.delete(request)
    }
  }

  /** The link is closed: a part that is being read is given up, so that those of other links are not kept waiting. */
  close() {
    this.#closed = true
    this.#ended.resolve()
  }

  /**
   * Commit a batch; resolves when it is durable and as much time again has passed, which is for everybody else's
   * messages, or when the link has closed.
   */
  async keep(content) {
    const beganAt = performance.now()
    const seq = this.commit(content)
    if (!seq) return
    await Promise.race([this.durable(seq), this.#ended.promise])
    await Promise.race([delay(performance.now() - beganAt), this.#ended.promise])
  }

  #keeps(syncType) {
    return syncType === ON_DEMAND || this.wanted === 'full' || (this.wanted === 'recent' && syncType !== FULL)
  }

  async #store(part) {
    if (this.#closed) return
    const keys = { type: 'md-msg-hist', mediaKey: part.mediaKey, directPath: part.directPath, fileSha256: part.fileSha256 }
    const compressed = part.inline?.length ? part.inline : await this.hosts().read({ keys, mostBytes: MOST_COMPRESSED_BYTES })
    const batch = new Batch(this)
    const keeps = this.#keeps(part.syncType)
    for await (const { message, conversation, pushName, mapping } of readHistory(inflated(compressed))) {
      if (this.#closed) return
      if (message && keeps) await batch.message(message)
      else if (conversation) batch.conversation(conversation)
      else if (pushName) batch.person(pushName)
      else if (mapping?.lidJid && mapping.pnJid) batch.mapping({ lid: mapping.lidJid, pn: mapping.pnJid })
      if (batch.isFull) await batch.flush()
    }
    await batch.flush()
    this.#settle(part, batch.count)
  }

  #settle({ request }, count) {
    if (request) this.#asked.get(request)?.resolve(count)
  }
}

const lengthOf = value => value?.length ?? 0
const sum = numbers => numbers.reduce((total, number) => total + number, 0)
const bytesOf = ({ mediaKey, directPath, fileSha256, inline, request }) => sum([mediaKey, directPath, fileSha256, inline, request].map(lengthOf))

class Batch {
  count = 0
  #messages = []
  #chars = 0
  #changes = []
  #groups = new Map()
  #mappings = []
  #tokens = []

  constructor(history) {
    this.history = history
  }

  get isFull() {
    return (
      this.#messages.length >= MESSAGES_AT_ONCE ||
      this.#chars >= CHARS_AT_ONCE ||
      this.#changes.length >= CHANGES_AT_ONCE ||
      this.#groups.size >= CHANGES_AT_ONCE ||
      this.#mappings.length >= MAPPINGS_AT_ONCE ||
      this.#tokens.length >= MAPPINGS_AT_ONCE
    )
  }

  async message(info) {
    const described = await this.history.inbound.fromHistory(info).catch(() => null)
    const message = described && bounded(described)
    const chars = message ? JSON.stringify(message).length : MESSAGE_CHARS
    if (chars >= MESSAGE_CHARS) return
    this.#messages.push(message)
    this.#chars += chars
    this.count += 1
  }

  conversation({ id, name, ephemeralExpiration, ephemeralSettingTimestamp: setAt, pnJid, lidJid, tcToken, tcTokenTimestamp, tcTokenSenderTimestamp }) {
    if (!id) return
    if (tcToken?.length) this.#tokens.push({ id, tcToken, tcTokenTimestamp, tcTokenSenderTimestamp })
    if (isJidGroup(id) && name) this.#groups.set(id, name)
    if (ephemeralExpiration) this.#changes.push({ t: 'chat', chat: id, disappearingS: ephemeralExpiration, timerSetAtS: Number(setAt ?? 0) })
    if (isLidUser(id) ? pnJid : lidJid) this.mapping(isLidUser(id) ? { lid: id, pn: pnJid } : { lid: lidJid, pn: id })
  }

  person({ id, pushname }) {
    if (id && pushname) this.#changes.push({ t: 'person', chat: id, pushName: pushname })
  }

  mapping(pair) {
    this.#mappings.push(pair)
  }

  async flush() {
    if (this.#mappings.length) await this.history.learn(this.#mappings).catch(() => {})
    if (this.#tokens.length) await this.history.tokens(this.#tokens).catch(() => {})
    const kept = this.history.keep({
      history: this.#messages,
      changes: this.#changes,
      groups: this.#groups.size ? Object.fromEntries(this.#groups) : undefined,
      historyProgress: this.history.progress
    })
    this.#messages = []
    this.#changes = []
    this.#groups = new Map()
    this.#mappings = []
    this.#tokens = []
    this.#chars = 0
    await kept
    await new Promise(setImmediate)
  }
}
