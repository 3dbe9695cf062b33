// Baileys' socket: how it is configured, and how it is ended without leaving timers or listeners behind.

import { makeWASocket } from 'baileys'

import { silentLogger } from './quiet.mjs'

const HOUR_MS = 3_600_000
export const BROWSER = 'Chrome'
const SYSTEM_VERSION = '22.04.4'
const DEVICE_NAME = 'Ubuntu' // WhatsApp refuses pairing codes of some accounts to unusual names

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
    agent: route.agent, // of the WebSocket
    options: { dispatcher: route }, // of what Baileys fetches: `routed` takes it
    auth,
    logger: silentLogger,
    connectTimeoutMs: order.connectTimeoutMs,
    defaultQueryTimeoutMs: order.queryTimeoutMs,
    keepAliveIntervalMs: HOUR_MS, // Python pings
    retryRequestDelayMs: 0, // Baileys would let all messages wait for each one that can't be read
    emitOwnEvents: false,
    markOnlineOnConnect: false,
    syncFullHistory: false, // shouldSyncHistoryMessage stays Baileys' own: all off would lose the first LID mappings
    generateHighQualityLinkPreview: false,
    ...config
  })
}

/** End a socket. Baileys' `end` frees timers and caches; the error wakes queries that would hold the socket until they
 *  time out. */
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

/** A listener whose errors do not end Baileys' handling of the frame, in the middle of which it is called. */
export const heedless = listen => value => {
  try {
    listen(value)
  } catch {
    // A stanza that no server makes. Baileys has its own answer to it.
  }
}
