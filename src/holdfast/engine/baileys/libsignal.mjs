// Fixes two defects of libsignal. Imported for that by the module that creates repositories.

import { AsyncLocalStorage } from 'node:async_hooks'

import libsignal from 'libsignal'

const { SessionBuilder, SessionCipher } = libsignal
const { decryptWithSessions, queueJob } = SessionCipher.prototype
const { initOutgoing } = SessionBuilder.prototype

// Finding the session that a ciphertext belongs to.
//
// Two people who write to each other for the first time at the same moment have two sessions with each other, and both
// stay in use. libsignal tries one after the other. By the time a wrong session fails its MAC check, its ratchet has
// been stepped, and it is then stored with the right one. Messages sent under it can't be decrypted any more, and the
// retry receipt creates a third session, with which the same happens again. So a session is restored when its attempt
// fails.

SessionCipher.prototype.decryptWithSessions = async function (ciphertext, sessions) {
  // A failure with the only session is not stored anyway.
  if (sessions.length < 2) return decryptWithSessions.call(this, ciphertext, sessions)
  let failure
  for (const session of sessions) {
    const before = session.serialize()
    try {
      return await decryptWithSessions.call(this, ciphertext, [session])
    } catch (error) {
      failure = error
      restore(session, before)
    }
  }
  throw failure
}

function restore(session, before) {
  for (const name of Object.keys(session)) delete session[name]
  Object.assign(session, session.constructor.deserialize(before))
}

// Working in the right transaction.
//
// libsignal queues work by the contact's address, for all links of the process together, and runs everything queued in
// the asynchronous context of the first caller. A key transaction lives in that context. So when two of our sessions
// dealt with the same contact at once, the second one's ratchet was stored outside its own transaction, apart from the
// message that it belonged to, or in a transaction that had ended, which means not at all.

SessionCipher.prototype.queueJob = function (job) {
  return queueJob.call(this, AsyncLocalStorage.bind(job))
}

SessionBuilder.prototype.initOutgoing = function (device) {
  const asCaller = AsyncLocalStorage.snapshot()
  const storage = {}
  for (const [name, method] of Object.entries(this.storage)) storage[name] = (...args) => asCaller(method, ...args)
  return initOutgoing.call(Object.create(this, { storage: { value: storage } }), device)
}
