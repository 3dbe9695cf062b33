// Converts keys and credentials to text and back. The text is opaque to Holdfast, and the same as
// `useMultiFileAuthState` writes.

import { BufferJSON, proto } from 'baileys'

// Values of these types contain no bytes. Sessions are by far the most often read and written, and a reviver is called
// for each of their values.
const PLAIN = new Set(['session', 'lid-mapping', 'device-list', 'sender-key-memory', 'number-spelling'])

export const json = {
  stringify: (value, type) => JSON.stringify(value, PLAIN.has(type) ? undefined : BufferJSON.replacer),
  parse: (text, type) => {
    if (PLAIN.has(type)) return JSON.parse(text)
    const value = JSON.parse(text, BufferJSON.reviver)
    return type === 'app-state-sync-key' ? proto.Message.AppStateSyncKeyData.fromObject(value) : value
  }
}
