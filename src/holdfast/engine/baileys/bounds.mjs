// Bounds how much an inbound message can add to one report. A report longer than a line of the pipe would end its
// link, and WhatsApp would deliver the message again on the next one. Holdfast bounds every string again before it is
// stored (`session/untrusted.py`).

export const TEXT_CHARS = 65_536
export const LIST_ITEMS = 1024
export const ID_CHARS = 4096
export const PLAINTEXT_CHARS = 131_072 // in base64
export const MESSAGE_CHARS = 1_000_000

const SHORT_CHARS = 200
const SHORT_ITEMS = 256
const DEPTH = 10
const OUR_ID = /^[\x21-\x7e]{1,128}$/

/** An empty message with its padding: stands for a plaintext that is too long to be stored. */
export const EMPTY_PLAINTEXT = 'AQ=='

/** May this be the id of a message that Holdfast sent? */
export const mayBeOurs = id => OUR_ID.test(id ?? '')

/** Strings, lists and nesting, truncated to their bounds; other values unchanged. */
export function bounded(value, depth = 0) {
  if (typeof value === 'string') return cut(value)
  if (value === null || typeof value !== 'object') return value
  if (depth >= DEPTH) return undefined
  if (Array.isArray(value)) return value.slice(0, LIST_ITEMS).map(each => bounded(each, depth + 1))
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, bounded(each, depth + 1)]))
}

/**
 * The port's `Decrypted`, small enough for a commit: a message that is still too long becomes a stub.
 *
 * @param isPeer  it is from another device of this account: its plaintext is kept, because history or settings would be
 *                lost if the process ended before Baileys has read them
 */
export function boundedDecrypted({ message, ...record }, { isPeer = false } = {}) {
  const { ciphertextSha256, plaintext } = record
  const kept = isPeer || plaintext.length <= PLAINTEXT_CHARS ? plaintext : EMPTY_PLAINTEXT
  if (!message) return { ...record, plaintext: kept }
  const described = bounded(message)
  const fits = JSON.stringify(described).length <= MESSAGE_CHARS
  return { ...record, plaintext: kept, message: fits ? described : stub(message, ciphertextSha256) }
}

/** A commit that is too long for a line, with stubs in place of its messages. */
export function withStubs({ decrypted, ...commit }) {
  const records = decrypted.map(({ ciphertextSha256, message, timer }) => ({
    ciphertextSha256,
    timer,
    plaintext: EMPTY_PLAINTEXT,
    message: message && stub(message, ciphertextSha256)
  }))
  return { ...commit, decrypted: records }
}

/**
 * A report that is too long for a line, with its texts and lists cut; null for one that must not be cut, or can't be
 * delivered again: keys and credentials, and answers to a request.
 */
export function shortened(report) {
  if (report.r === 'commit') return report.keys || report.credentials ? null : cutTo(report)
  return report.r === 'receipt' || report.r === 'presence' ? cutTo(report) : null
}

function cutTo(value) {
  if (typeof value === 'string') return value.slice(0, SHORT_CHARS)
  if (value === null || typeof value !== 'object') return value
  if (Array.isArray(value)) return value.slice(0, SHORT_ITEMS).map(cutTo)
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, cutTo(each)]))
}

// Records that there was a message, and why its content is missing.
function stub({ whatsappId, chat, sender, sentAtS, fromMe, offline }, ciphertextSha256) {
  const content = { notStored: { ciphertextSha256, error: 'the message is too long' } }
  return bounded({ whatsappId, chat, sender, sentAtS, fromMe, offline, type: 'unknown', content })
}

function cut(text) {
  if (text.length <= TEXT_CHARS) return text
  const mark = `… [cut: ${text.length} characters, Holdfast stores ${TEXT_CHARS}]`
  return text.slice(0, TEXT_CHARS - mark.length) + mark
}
