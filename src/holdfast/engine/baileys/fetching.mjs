// Mends what Baileys fetches over HTTP: the history and the settings of an account.
//
// Baileys pipes what it fetches and does not listen to it. When the connection breaks off, the error has no hearer and
// ends the process, with the links of all companies; and when the server falls silent, it waits for ever, with the
// link's messages behind it. Here both end the download, for the one who waits for it.

import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

const SILENCE_MS = 30_000

/** `fetch`, whose body is a stream that takes the stream it is piped into along when it breaks. */
export function mended(fetch, silenceMs = SILENCE_MS) {
  return async (address, options = {}) => {
    const silence = new AbortController()
    const timer = setTimeout(() => silence.abort(new Error(`nothing came for ${silenceMs / 1000} s`)), silenceMs)
    const signal = AbortSignal.any([silence.signal, options.signal].filter(Boolean))
    try {
      const response = await fetch(address, { ...options, signal })
      const body = response.body && piping(Readable.from(moving(response.body, timer), { objectMode: false }))
      return Object.defineProperty(response, 'body', { value: body })
    } catch (error) {
      clearTimeout(timer)
      throw error
    }
  }
}

async function* moving(chunks, timer) {
  try {
    for await (const chunk of chunks) {
      timer.refresh()
      yield chunk
    }
  } finally {
    clearTimeout(timer)
  }
}

// The failure is the destination's: whoever reads from there hears of it.
function piping(body) {
  body.pipe = destination => {
    delete body.pipe
    pipeline(body, destination).catch(() => {})
    return destination
  }
  return body
}
