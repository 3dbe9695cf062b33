// Keys and credentials as text and back: opaque to Holdfast, and the same text that `useMultiFileAuthState` writes.

import { BufferJSON, proto } from 'baileys'

// Values of these types hold no bytes. Sessions are by far the most read and written, and a reviver is called for
// each of their values.
const PLAIN = new Set(['session', 'lid-mapping', 'device-list', 'sender-key-memory', 'number-spelling'])

export const json = {
  stringify: (value, type) => JSON.stringify(value, PLAIN.has(type) ? undefined : BufferJSON.replacer),
  parse: (text, type) => {
    if (PLAIN.has(type)) return JSON.parse(text)
    const value = JSON.parse(text, BufferJSON.reviver)
    return type === 'app-state-sync-key' ? proto.Message.AppStateSyncKeyData.fromObject(value) : value
  }
}
