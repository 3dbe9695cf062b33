// Seals and unseals media as WhatsApp wants it: AES-256-CBC under keys that are derived from the message's media key,
// then ten bytes of an HMAC. Works on streams, a chunk at a time, and puts nothing on the disk.

import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { createReadStream } from 'node:fs'

import { getMediaKeys } from 'baileys'

const MAC_BYTES = 10

/** Media that are not what their message says: changed on the way, or never whole. */
export class Damaged extends Error {}

/** Yields the sealed bytes of `chunks`. */
export async function* seal(chunks, { cipherKey, iv, macKey }) {
  const cipher = createCipheriv('aes-256-cbc', cipherKey, iv)
  const mac = createHmac('sha256', macKey).update(iv)
  for await (const chunk of chunks) {
    const sealed = cipher.update(chunk)
    mac.update(sealed)
    yield sealed
  }
  const last = cipher.final()
  yield Buffer.concat([last, mac.update(last).digest().subarray(0, MAC_BYTES)])
}

/** Yields what was sealed; throws `Damaged`, at the latest at the end: until then nothing may be believed. */
export async function* unseal(chunks, { cipherKey, iv, macKey }, fileSha256) {
  const decipher = createDecipheriv('aes-256-cbc', cipherKey, iv)
  const mac = createHmac('sha256', macKey).update(iv)
  const digest = createHash('sha256')
  const opened = plain => (digest.update(plain), plain)
  let end = Buffer.alloc(0)
  for await (const chunk of chunks) {
    const [body, rest] = apart(end, chunk)
    end = rest
    for (const part of body) {
      mac.update(part)
      yield opened(decipher.update(part))
    }
  }
  const expected = mac.digest().subarray(0, MAC_BYTES)
  if (end.length !== MAC_BYTES || !timingSafeEqual(end, expected)) throw new Damaged('the media’s seal is broken')
  yield opened(lastOf(decipher))
  if (fileSha256?.length && !digest.digest().equals(fileSha256)) throw new Damaged('the media have another hash')
}

// What surely stands before the seal, in parts, and what may be it. Copies no large chunk.
function apart(end, chunk) {
  if (chunk.length >= MAC_BYTES) return [[end, chunk.subarray(0, -MAC_BYTES)], Buffer.from(chunk.subarray(-MAC_BYTES))]
  const held = Buffer.concat([end, chunk])
  const cut = Math.max(0, held.length - MAC_BYTES)
  return [[held.subarray(0, cut)], held.subarray(cut)]
}

function lastOf(decipher) {
  try {
    return decipher.final()
  } catch (error) {
    throw new Damaged('the media have no whole last block', { cause: error })
  }
}

/** A file that can be sealed as often as wanted, always to the same bytes; its hashes and lengths are known. */
export class SealedFile {
  /** Reads the file once. */
  static async of(path, type, mediaKey = randomBytes(32)) {
    const file = new SealedFile(path, mediaKey, await getMediaKeys(mediaKey, type))
    await file.#measure()
    return file
  }

  constructor(path, mediaKey, keys) {
    this.path = path
    this.mediaKey = mediaKey
    this.keys = keys
    this.fileLength = 0
    this.sealedLength = 0
  }

  /** The sealed bytes, read anew. */
  chunks() {
    return seal(createReadStream(this.path), this.keys)
  }

  async #measure() {
    const plain = createHash('sha256')
    const sealed = createHash('sha256')
    const counted = async function* (file) {
      for await (const chunk of createReadStream(file.path)) {
        plain.update(chunk)
        file.fileLength += chunk.length
        yield chunk
      }
    }
    for await (const chunk of seal(counted(this), this.keys)) {
      sealed.update(chunk)
      this.sealedLength += chunk.length
    }
    this.fileSha256 = plain.digest()
    this.fileEncSha256 = sealed.digest()
  }
}
