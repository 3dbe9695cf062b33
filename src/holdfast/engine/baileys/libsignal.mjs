// Mends two things in libsignal. Imported for that, by the one that makes repositories.

import { AsyncLocalStorage } from 'node:async_hooks'

import libsignal from 'libsignal'

const { SessionBuilder, SessionCipher } = libsignal
const { decryptWithSessions, queueJob } = SessionCipher.prototype
const { initOutgoing } = SessionBuilder.prototype

// Finding the session that a ciphertext belongs to.
//
// Two people who write to each other for the first time at once have two sessions with each other, and both stay in
// use. libsignal tries one after the other; a wrong one has stepped its ratchet by the time its MAC check fails, and
// is stored so together with the right one. What is sent under it can't be read any more, and the retry receipt makes
// a third session, with which it begins anew. So a session is put back as it was when its attempt has failed.

SessionCipher.prototype.decryptWithSessions = async function (ciphertext, sessions) {
  // What fails with its only session is not stored.
  if (sessions.length < 2) return decryptWithSessions.call(this, ciphertext, sessions)
  let failure
  for (const session of sessions) {
    const before = session.serialize()
    try {
      return await decryptWithSessions.call(this, ciphertext, [session])
    } catch (error) {
      failure = error
      putBack(session, before)
    }
  }
  throw failure
}

function putBack(session, before) {
  for (const name of Object.keys(session)) delete session[name]
  Object.assign(session, session.constructor.deserialize(before))
}

// Working in one's own transaction.
//
// libsignal queues work by the contact's address, for all links of the process together, and does all that has
// gathered in the asynchronous context of whoever came first. A key transaction lives in that context. So when two
// sessions had to do with the same contact at once, the second one's ratchet was stored outside its transaction,
// apart from the message that it was for – or in a transaction that had ended, and then not at all.

SessionCipher.prototype.queueJob = function (job) {
  return queueJob.call(this, AsyncLocalStorage.bind(job))
}

SessionBuilder.prototype.initOutgoing = function (device) {
  const asCaller = AsyncLocalStorage.snapshot()
  const storage = {}
  for (const [name, method] of Object.entries(this.storage)) storage[name] = (...args) => asCaller(method, ...args)
  return initOutgoing.call(Object.create(this, { storage: { value: storage } }), device)
}
