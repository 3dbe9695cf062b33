// Decodes an account's history piece by piece: a part of it may have tens of megabytes, and decoded as a whole it would
// take ten times as much. Only one message is in memory at a time.

import { createInflate } from 'node:zlib'
import { pipeline, Readable } from 'node:stream'

import { proto } from 'baileys'

const MOST_MESSAGE_BYTES = 256 * 1024 // a longer message is left out
const MOST_FIELD_BYTES = 4096 // of what else a conversation has
const MOST_HEAD_BYTES = 64 * 1024
const VARINT_BYTES = 10
const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5] // wire types of protobuf
// Fields of HistorySync, and of a conversation in it.
const [CONVERSATIONS, PUSH_NAMES, MAPPINGS] = [2, 7, 15]
const MESSAGES = 2

/** The bytes are not a history. */
export class BadHistory extends Error {}

/** Inflate compressed bytes, in chunks. */
export function inflated(compressed) {
  const inflate = createInflate()
  pipeline(Readable.from([compressed]), inflate, () => {}) // an error is raised for whoever reads
  return inflate
}

/**
 * The contents of a `HistorySync` in the order in which they are encoded, each as `{message}`, `{conversation}` (without
 * its messages), `{pushName}` or `{mapping}`. Throws BadHistory.
 */
export async function* readHistory(chunks) {
  const source = new Source(chunks)
  while (!(await source.atEnd())) {
    const { field, wire } = await source.tag()
    if (wire !== BYTES) {
      await source.scalar(wire)
      continue
    }
    const length = await source.length()
    if (field === CONVERSATIONS) yield* readConversation(source, length)
    else if (field === PUSH_NAMES && length <= MOST_FIELD_BYTES) yield* decoded(proto.Pushname, await source.take(length), 'pushName')
    else if (field === MAPPINGS && length <= MOST_FIELD_BYTES) yield* decoded(proto.PhoneNumberToLIDMapping, await source.take(length), 'mapping')
    else await source.skip(length)
  }
}

async function* readConversation(source, length) {
  const end = source.position + length
  const head = []
  let headBytes = 0
  while (source.position < end) {
    const { field, wire, bytes } = await source.tag()
    if (wire !== BYTES) {
      head.push(bytes, await source.scalar(wire))
      continue
    }
    const size = await source.length()
    if (source.position + size > end) throw new BadHistory('a conversation ends inside of a field')
    if (field === MESSAGES && size <= MOST_MESSAGE_BYTES) {
      for (const { part } of decoded(proto.HistorySyncMsg, await source.take(size), 'part')) if (part.message) yield { message: part.message }
    } else if (field !== MESSAGES && size <= MOST_FIELD_BYTES && headBytes + size <= MOST_HEAD_BYTES) {
      headBytes += size
      head.push(bytes, varint(size), await source.take(size))
    } else {
      await source.skip(size)
    }
    if (head.length > MOST_FIELD_BYTES) throw new BadHistory('a conversation has too many fields')
  }
  yield* decoded(proto.Conversation, Buffer.concat(head), 'conversation')
}

// What can't be decoded is left out.
function* decoded(type, bytes, name) {
  let value
  try {
    value = type.decode(bytes)
  } catch {
    return
  }
  yield { [name]: value }
}

/** Reads protobuf from a stream of chunks. */
class Source {
  position = 0
  #chunks
  #held = Buffer.alloc(0)

  constructor(chunks) {
    this.#chunks = chunks[Symbol.asyncIterator]()
  }

  async atEnd() {
    return !this.#held.length && !(await this.#more())
  }

  async tag() {
    const bytes = await this.#varint()
    const value = valueOf(bytes)
    return { field: Math.floor(value / 8), wire: value % 8, bytes }
  }

  async length() {
    const length = valueOf(await this.#varint())
    if (!Number.isSafeInteger(length)) throw new BadHistory('a length that is no number')
    return length
  }

  /** The bytes of a value that is not length-delimited. */
  async scalar(wire) {
    if (wire === VARINT) return this.#varint()
    if (wire === FIXED64) return this.take(8)
    if (wire === FIXED32) return this.take(4)
    throw new BadHistory(`wire type ${wire}`)
  }

  async take(count) {
    while (this.#held.length < count) if (!(await this.#more())) throw new BadHistory('it ends inside of a field')
    return this.#cut(count)
  }

  async skip(count) {
    for (let left = count; left > 0; ) {
      if (!this.#held.length && !(await this.#more())) throw new BadHistory('it ends inside of a field')
      left -= this.#cut(Math.min(left, this.#held.length)).length
    }
  }

  async #varint() {
    for (let size = 1; size <= VARINT_BYTES; size += 1) {
      while (this.#held.length < size) if (!(await this.#more())) throw new BadHistory('it ends inside of a number')
      if (this.#held[size - 1] < 0x80) return this.#cut(size)
    }
    throw new BadHistory('a number of more than ten bytes')
  }

  #cut(count) {
    const bytes = this.#held.subarray(0, count)
    this.#held = this.#held.subarray(count)
    this.position += count
    return bytes
  }

  async #more() {
    const { value, done } = await this.#chunks.next()
    if (done) return false
    this.#held = this.#held.length ? Buffer.concat([this.#held, value]) : value
    return true
  }
}

const valueOf = bytes => bytes.reduceRight((value, byte) => value * 128 + (byte & 0x7f), 0)

function varint(value) {
  const bytes = []
  for (; value > 0x7f; value = Math.floor(value / 128)) bytes.push((value & 0x7f) | 0x80)
  return Buffer.from([...bytes, value])
}
