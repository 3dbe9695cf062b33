// Baileys' socket: its configuration, and how to end it without leaving timers or listeners behind.

import { makeWASocket } from 'baileys'

import { silentLogger } from './quiet.mjs'

const HOUR_MS = 3_600_000
export const BROWSER = 'Chrome'
const SYSTEM_VERSION = '22.04.4'
const DEVICE_NAME = 'Ubuntu' // for some accounts WhatsApp refuses pairing codes to unusual names

/**
 * @param order     the `open` command
 * @param auth      {creds, keys}
 * @param route     how to reach WhatsApp: a `Route`
 * @param config    further settings of Baileys: caches and callbacks of the link
 */
export function makeSocket({ order, auth, route, ...config }) {
  return makeWASocket({
    ...(order.url && { waWebSocketUrl: order.url }),
    ...(order.version && { version: order.version }),
    browser: [order.deviceName ?? DEVICE_NAME, BROWSER, SYSTEM_VERSION],
    agent: route.agent, // for the WebSocket
    options: { dispatcher: route }, // for Baileys' downloads: used by `routed`
    auth,
    logger: silentLogger,
    connectTimeoutMs: order.connectTimeoutMs,
    defaultQueryTimeoutMs: order.queryTimeoutMs,
    keepAliveIntervalMs: HOUR_MS, // Python pings
    retryRequestDelayMs: 0, // otherwise each undecryptable message would delay all others
    emitOwnEvents: false,
    markOnlineOnConnect: false,
    syncFullHistory: order.history === 'full',
    generateHighQualityLinkPreview: false,
    ...config
  })
}

/**
 * End a socket. Baileys' `end` frees timers and caches; the error rejects queries that would otherwise hold the socket
 * until they time out.
 */
export async function release({ ws, ev, messageRetryManager, end }, error) {
  ws.socket.terminate()
  await end(undefined)
  ws.on('error', () => {})
  ws.emit('error', error)
  messageRetryManager?.clear?.()
  setImmediate(() => {
    ws.removeAllListeners()
    ws.on('error', () => {})
    ev.removeAllListeners()
  })
}

/** A listener whose errors do not interrupt Baileys, which calls it while it handles a frame. */
export const ignoringErrors = listen => value => {
  try {
    listen(value)
  } catch {
    // A stanza that no real server sends. Baileys handles it in its own way.
  }
}
