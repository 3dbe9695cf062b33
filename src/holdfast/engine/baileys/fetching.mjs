// Fixes how Baileys downloads over HTTP: the history and the settings of an account.
//
// Baileys pipes the download without an error listener. When the connection breaks, the unhandled error ends the
// process with the links of all companies; when the server stops sending, Baileys waits for ever, and the link's
// messages wait behind it. Here both cases end the download with an error for whoever awaits it.

import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

const SILENCE_MS = 30_000

/** `fetch` with a body stream that also destroys the stream it is piped into when it fails. */
export function guarded(fetch, silenceMs = SILENCE_MS) {
  return async (address, options = {}) => {
    const silence = new AbortController()
    const timer = setTimeout(() => silence.abort(new Error(`no data for ${silenceMs / 1000} s`)), silenceMs)
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

// The error surfaces at the destination, where its reader handles it.
function piping(body) {
  body.pipe = destination => {
    delete body.pipe
    pipeline(body, destination).catch(() => {})
    return destination
  }
  return body
}
