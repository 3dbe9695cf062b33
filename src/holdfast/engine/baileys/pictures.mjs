// Profile pictures of people and groups: where WhatsApp has them, and the small files themselves.

import { NoAnswer } from './recipients.mjs'
import { NotThere } from './refusals.mjs'

const TIMEOUT_MS = 10_000
const MOST_BYTES = 128 * 1024 // a preview has less than 10 KiB
const GONE = new Set([403, 404, 410])
const UNUSABLE = 'its picture is no JPEG, PNG or WebP of at most 128 KiB'

/** The address of a picture, which expires after some days; `type`: `preview` or `image`. Throws `NotThere`. */
export async function pictureAddress({ jid, type }, { sock, limits }) {
  const ask = () => sock.profilePictureUrl(jid, type)
  const url = await limits.run('w:profile:picture', ask).catch(error => {
    if (error.data === 401) throw new NotThere('its picture is hidden from this account')
    if (error.data === 404) throw new NotThere('there is no picture, or it is hidden from this account')
    throw error
  })
  if (!url) throw new NotThere('there is no picture, or it is hidden from this account')
  return url
}

/** Download a preview on the link's route: `{mimetype, base64}`. Throws `NotThere`, and `NoAnswer` after a timeout. */
export async function pictureAt(address, route, timeoutMs = TIMEOUT_MS) {
  const url = URL.parse(address)
  if (url?.protocol !== 'https:') throw new Error('the address of the picture is not an https URL')
  const signal = AbortSignal.timeout(timeoutMs)
  try {
    const bytes = await bytesOf(await responseOf(url, route, signal))
    const mimetype = mimetypeOf(bytes)
    if (!mimetype) throw new NotThere(UNUSABLE)
    return { mimetype, base64: bytes.toString('base64') }
  } catch (error) {
    if (signal.aborted) throw new NoAnswer(`${url.host} did not send the picture within ${timeoutMs / 1000} s`, { cause: error })
    throw error
  }
}

// Redirects are not followed: WhatsApp's addresses have none.
async function responseOf(url, route, signal) {
  const { promise, resolve, reject } = Promise.withResolvers()
  route.request(url, { signal }, resolve).on('error', reject).end()
  const response = await promise
  if (response.statusCode === 200) return response
  response.on('error', () => {}).destroy()
  if (GONE.has(response.statusCode)) throw new NotThere('its picture is not on WhatsApp’s server any more')
  throw new Error(`${url.host} answered ${response.statusCode}`)
}

async function bytesOf(response) {
  const parts = []
  let size = 0
  for await (const part of response) {
    size += part.length
    if (size > MOST_BYTES) throw new NotThere(UNUSABLE)
    parts.push(part)
  }
  return Buffer.concat(parts)
}

function mimetypeOf(bytes) {
  const starts = (text, at = 0) => bytes.subarray(at, at + text.length).equals(Buffer.from(text, 'latin1'))
  if (starts('\xff\xd8\xff')) return 'image/jpeg'
  if (starts('\x89PNG\r\n\x1a\n')) return 'image/png'
  return starts('RIFF') && starts('WEBP', 8) ? 'image/webp' : undefined
}
