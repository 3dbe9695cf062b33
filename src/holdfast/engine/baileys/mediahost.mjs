// WhatsApp's media servers, as one link learned them: uploads files and downloads what messages point to.
//
// Baileys' own code is not used: it caches a failed query for the servers for ever, waits for ever for a download that
// broke off, never verifies the MAC, and a full disk under its temporary files ends the process.

import { createWriteStream } from 'node:fs'
import { rename, rm, stat } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

import { DEFAULT_ORIGIN, getAudioDuration, getBinaryNodeChild, getBinaryNodeChildren, getMediaKeys, MEDIA_PATH_MAP } from 'baileys'

import { Damaged, SealedFile, unseal, verified } from './media.mjs'
import { askMediaServers } from './stanzas.mjs'

const SILENCE_MS = 30_000
const MOST_ANSWER_BYTES = 65_536
const GONE = new Set([403, 404, 410])
// Padding of up to a block, and the MAC.
const MOST_SEAL_BYTES = 16 + 10

/** Media could not be uploaded; a later attempt may succeed. */
export class UploadFailed extends Error {}

/** Media can't be downloaded; `code` is one of the port's codes. */
export class DownloadFailed extends Error {
  constructor(code, message, options) {
    super(message, options)
    this.code = code
  }
}

export class MediaHosts {
  #known = null // {hosts, auth, until}
  #asking = null
  #over = new AbortController()

  /**
   * @param query  sends a query to WhatsApp on this link
   * @param route  the link's `Route` to the network
   */
  constructor({ query, route }) {
    this.query = query
    this.route = route
  }

  /** End all traffic: the link is over. */
  close() {
    this.#over.abort()
  }

  /** The origin of a server for files of the account: its history and settings. */
  async origin() {
    const { hosts } = await this.#servers()
    if (!hosts.length) throw new Error('WhatsApp named no server for media')
    return `https://${hosts[0]}`
  }

  /** The fields of a media message for a file; throws `UploadFailed`. */
  async upload({ file, type, timeS }) {
    try {
      await requireFile(file)
      const sealed = await SealedFile.of(file, type)
      const { url, directPath } = await this.#put(sealed, type)
      const { mediaKey, fileSha256, fileEncSha256, fileLength } = sealed
      const seconds = type === 'audio' ? await duration(file) : undefined
      return { url, directPath, mediaKey, fileSha256, fileEncSha256, fileLength, mediaKeyTimestamp: timeS, seconds }
    } catch (error) {
      throw new UploadFailed(`the ${type} could not be uploaded: ${error.message}`, { cause: error })
    }
  }

  /** Download media into a file, completely or not at all; returns its size. Throws `DownloadFailed`. */
  async download({ keys, file, mostBytes }) {
    const part = `${file}.part`
    try {
      const size = await this.#fetch(keys, mostBytes, async plain => {
        await pipeline(plain, createWriteStream(part)) // no fsync: Node's permission model has none, and the spool needs none
        return (await stat(part)).size
      })
      await rename(part, file)
      return size
    } catch (error) {
      await rm(part, { force: true }).catch(() => {}) // an unwritable folder has already been reported
      throw downloadFailed(error)
    }
  }

  /** Download a file of the account into memory; throws `DownloadFailed`. */
  async read({ keys, mostBytes }) {
    try {
      return await this.#fetch(keys, mostBytes, async plain => {
        const parts = []
        for await (const part of plain) parts.push(part)
        return Buffer.concat(parts)
      })
    } catch (error) {
      throw downloadFailed(error)
    }
  }

  async #put(sealed, type) {
    const { hosts, auth } = await this.#servers()
    const token = sealed.fileEncSha256.toString('base64url')
    let failure = new Error('WhatsApp named no server for media')
    for (const host of hosts) {
      const url = `https://${host}${MEDIA_PATH_MAP[type]}/${token}?auth=${encodeURIComponent(auth)}&token=${token}`
      try {
        return placeOf(await post(this.route, url, sealed, this.#over.signal), host)
      } catch (error) {
        failure = error
      }
    }
    this.#known = null // the authorisation may have expired
    throw failure
  }

  async #fetch({ type, mediaKey, directPath, fileSha256 }, mostBytes, consume) {
    const keys = mediaKey && (await getMediaKeys(Buffer.from(mediaKey, 'base64'), type))
    const sha256 = fileSha256 && Buffer.from(fileSha256, 'base64')
    const { hosts } = await this.#servers()
    let failure = new Error('WhatsApp named no server for media')
    for (const host of hosts) {
      const watch = new Watch(this.#over.signal)
      try {
        const sealed = await get(this.route, addressOf(host, directPath), mostBytes, watch)
        const plain = limited(keys ? unseal(sealed, keys, sha256) : verified(sealed, sha256), mostBytes)
        return await consume(plain)
      } catch (error) {
        failure = watch.silent ? new DownloadFailed('timeout', `${host} stopped sending`) : error
        if (failure instanceof DownloadFailed && failure.code !== 'timeout') break // the next server would answer the same
      } finally {
        watch.end()
      }
    }
    throw failure
  }

  async #servers() {
    if (this.#known && performance.now() < this.#known.until) return this.#known
    this.#asking ??= this.#ask().finally(() => (this.#asking = null))
    return this.#asking
  }

  async #ask() {
    const answer = await this.query(askMediaServers())
    const node = getBinaryNodeChild(answer, 'media_conn')
    if (!node) throw new Error('WhatsApp named no server for media')
    const hosts = getBinaryNodeChildren(node, 'host').map(({ attrs }) => attrs.hostname)
    this.#known = { hosts, auth: node.attrs.auth ?? '', until: performance.now() + Number(node.attrs.ttl || 0) * 1000 }
    return this.#known
  }
}

/** Aborts what it watches when nothing arrives for a while, or the link ends. */
class Watch {
  #controller = new AbortController()
  #timer
  silent = false

  constructor(over) {
    this.signal = AbortSignal.any([over, this.#controller.signal])
    this.moved()
  }

  moved() {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.silent = true
      this.#controller.abort()
    }, SILENCE_MS)
  }

  end() {
    clearTimeout(this.#timer)
  }
}

async function requireFile(path) {
  const found = await stat(path).catch(error => {
    throw new Error(`its file can't be read (${error.code})`, { cause: error })
  })
  if (!found.isFile()) throw new Error('its path is not a file')
}

// To show the length of a voice note. One that can't be measured is sent without.
async function duration(file) {
  const seconds = await getAudioDuration(file).catch(() => undefined)
  return Number.isFinite(seconds) ? Math.max(1, Math.round(seconds)) : undefined
}

async function post(route, url, sealed, signal) {
  const { promise, resolve, reject } = Promise.withResolvers()
  const headers = { 'Content-Type': 'application/octet-stream', 'Content-Length': sealed.sealedLength, Origin: DEFAULT_ORIGIN }
  const request = route.request(url, { method: 'POST', headers, signal, timeout: SILENCE_MS }, resolve)
  request.on('timeout', () => request.destroy(new Error(`the server was silent for ${SILENCE_MS / 1000} s`)))
  request.on('error', reject)
  pipeline(Readable.from(sealed.chunks(), { objectMode: false }), request).catch(reject)
  const response = await promise
  const text = await textOf(response)
  if (response.statusCode !== 200) request.destroy() // no need to send the rest of a refused file
  return { status: response.statusCode, text }
}

async function textOf(response) {
  let text = ''
  for await (const chunk of response) {
    text += chunk
    if (text.length > MOST_ANSWER_BYTES) throw new Error('the server’s answer is too long')
  }
  return text
}

function placeOf({ status, text }, host) {
  if (status !== 200) throw new Error(`${host} answered ${status}`)
  const { url, direct_path: directPath } = JSON.parse(text)
  if (!url && !directPath) throw new Error(`${host} did not say where the file is`)
  return { url, directPath }
}

// The sender chose the path: whatever it contains, the URL stays on that server.
function addressOf(host, directPath) {
  if (!directPath?.startsWith('/')) throw new DownloadFailed('gone', 'the message has no path of media')
  return new URL(new URL(`https://${host}`).origin + directPath)
}

async function get(route, address, mostBytes, watch) {
  const { promise, resolve, reject } = Promise.withResolvers()
  const request = route.request(address, { headers: { Origin: DEFAULT_ORIGIN }, signal: watch.signal }, resolve)
  request.on('error', reject).end()
  const response = await promise
  const { statusCode: status, headers } = response
  const tooLarge = Number(headers['content-length']) > mostBytes + MOST_SEAL_BYTES
  if (status === 200 && !tooLarge) return moving(response, watch)
  response.on('error', () => {}).destroy()
  if (GONE.has(status)) throw new DownloadFailed('gone', `${address.host} answered ${status}`)
  if (status !== 200) throw new Error(`${address.host} answered ${status}`)
  throw new DownloadFailed('too-large', `more than ${mostBytes} bytes`)
}

async function* moving(body, watch) {
  for await (const chunk of body) {
    watch.moved()
    yield chunk
  }
}

async function* limited(chunks, mostBytes) {
  let size = 0
  for await (const chunk of chunks) {
    size += chunk.length
    if (size > mostBytes) throw new DownloadFailed('too-large', `more than ${mostBytes} bytes`)
    yield chunk
  }
}

function downloadFailed(error) {
  if (error instanceof DownloadFailed) return error
  if (error instanceof Damaged) return new DownloadFailed('damaged', error.message, { cause: error })
  if (error.output?.statusCode === 408) return new DownloadFailed('timeout', error.message, { cause: error })
  return new DownloadFailed('engine-error', error.message, { cause: error })
}
