// Mends how libsignal finds the session that a ciphertext belongs to.
//
// Two people who write to each other for the first time at once have two sessions with each other, and both stay in
// use. libsignal tries one after the other; a wrong one has stepped its ratchet by the time its MAC check fails, and
// is stored so together with the right one. What is sent under it can't be read any more, and the retry receipt makes
// a third session, with which it begins anew. So a session is put back as it was when its attempt has failed.

import libsignal from 'libsignal'

const { SessionCipher } = libsignal
const decryptWithSessions = SessionCipher.prototype.decryptWithSessions

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
