// The Signal repository that Baileys encrypts and decrypts with: Baileys' own, wrapped in the write-ahead guarantees.
//
// It gets its own transaction capability, not the one that makeSocket passes to `makeSignalRepository`. Baileys'
// `addTransactionCapability` merges every nested transaction into the outer one (AsyncLocalStorage, one per instance),
// and `relayMessage` holds an outer one around encryption *and* the write of the frame. With the shared instance the
// ratchet would be committed after its frame has been sent, and a crash in between would make the next message reuse a
// key. With its own instance an encryption commits when it is done, before `relayMessage` has a frame.

import './libsignal.mjs'
import './signatures.mjs'

import { addTransactionCapability, DEFAULT_CONNECTION_CONFIG, jidDecode } from 'baileys'

import { DECRYPTED } from './keys.mjs'
import { digest } from './inbound.mjs'

const makeLibSignalRepository = DEFAULT_CONNECTION_CONFIG.makeSignalRepository

/**
 * @param store     the link's KeyStore
 * @param inbound   the link's Inbound
 * @param recall    async hash => base64 plaintext that was committed under that ciphertext's hash, or null
 * @param missed    undecryptable => void: commits that a message can't be decrypted, before its sender is asked again
 */
export function signalRepositoryMaker({ store, inbound, recall, missed }) {
  return (auth, logger, pnToLid) => {
    const keys = addTransactionCapability(store, logger, { maxCommitRetries: 1, delayBetweenTriesMs: 0 })
    const inner = makeLibSignalRepository({ creds: auth.creds, keys }, logger, pnToLid)

    // Sends identify a device by phone number, and what it sends us by LID; both change the same session record.
    // Baileys locks by the name it was given; locking by person keeps one change from undoing the other.
    const lockOf = async jid => {
      const { user, device = 0, server } = jidDecode(jid)
      if (server !== 's.whatsapp.net') return `${user}:${device}`
      const { [user]: lid } = await keys.get('lid-mapping', [user])
      return `${lid ?? user}:${device}`
    }
    const locked = async (jid, work) => keys.transaction(work, await lockOf(jid))

    // Ratchet change and plaintext are one commit. A ciphertext that can't be decrypted may be one whose receipt was
    // lost in a crash. Then its plaintext is stored, and returning it lets Baileys send the receipt that WhatsApp waits
    // for.
    const noteUnreadable = async ciphertext => {
      const message = await inbound.undecryptable(ciphertext)
      if (message) missed(message)
    }
    const decrypt = async (ciphertext, lock, work) => {
      try {
        const { plaintext, record } = await keys.transaction(async () => {
          const plaintext = await work()
          const record = await inbound.decrypted(ciphertext, plaintext)
          await keys.set({ [DECRYPTED]: { [record.ciphertextSha256]: record } })
          return { plaintext, record }
        }, lock)
        if (inbound.isUnreadable(record, plaintext)) await noteUnreadable(ciphertext)
        return plaintext
      } catch (error) {
        const known = await recall(digest(ciphertext))
        if (known === null) {
          await noteUnreadable(ciphertext)
          throw error
        }
        return Buffer.from(known, 'base64')
      }
    }

    return {
      ...inner,
      decryptMessage: async args => decrypt(args.ciphertext, await lockOf(args.jid), () => inner.decryptMessage(args)),
      decryptGroupMessage: args => decrypt(args.msg, args.group, () => inner.decryptGroupMessage(args)),
      encryptMessage: args => locked(args.jid, () => inner.encryptMessage(args)),
      injectE2ESession: args => locked(args.jid, () => inner.injectE2ESession(args))
    }
  }
}

/**
 * Make new pre-keys durable before a frame can contain them. `sendRetryRequest` creates one and sends it inside one
 * transaction, which would commit it after the frame; so pre-keys are also written to the store at once.
 */
export function writePreKeysThrough(keys, store) {
  const set = keys.set
  keys.set = async changes => {
    const made = Object.entries(changes['pre-key'] ?? {}).filter(([, value]) => value)
    if (made.length) store.set({ 'pre-key': Object.fromEntries(made) })
    return set(changes)
  }
}
