// Encrypts and decrypts media in WhatsApp's format: AES-256-CBC under keys derived from the message's media key,
// followed by ten bytes of an HMAC. Works on streams, one chunk at a time, and writes nothing to disk.

import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { createReadStream } from 'node:fs'

import { getMediaKeys } from 'baileys'

const MAC_BYTES = 10

/** Media that do not match their message: modified on the way, or incomplete. */
export class Damaged extends Error {}

/** Yields `chunks`, encrypted and authenticated. */
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

/** Yields the plaintext; throws `Damaged`, at the latest at the end. Until then none of it may be trusted. */
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
  if (end.length !== MAC_BYTES || !timingSafeEqual(end, expected)) throw new Damaged('the MAC of the media does not match')
  yield opened(lastOf(decipher))
  if (fileSha256?.length && !digest.digest().equals(fileSha256)) throw new Damaged('the hash of the media does not match')
}

/** The bytes of a file that is not encrypted, as the media of channels. Throws `Damaged` at the end for another hash. */
export async function* verified(chunks, fileSha256) {
  const digest = createHash('sha256')
  for await (const chunk of chunks) {
    digest.update(chunk)
    yield chunk
  }
  if (!digest.digest().equals(fileSha256)) throw new Damaged('the hash of the media does not match')
}

// Yields what certainly precedes the MAC, in parts, and holds back what may be part of it. Copies no large chunk.
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
    throw new Damaged('the last block of the media is incomplete', { cause: error })
  }
}

/** A file that can be encrypted repeatedly, always to the same bytes; its hashes and lengths are known. */
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

  /** The encrypted bytes, computed again. */
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
