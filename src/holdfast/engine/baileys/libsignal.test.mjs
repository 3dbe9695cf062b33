import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { test } from 'node:test'

import libsignal from 'libsignal'

import './libsignal.mjs'

const { keyhelper, ProtocolAddress, SessionBuilder, SessionCipher, SessionRecord } = libsignal

/** One person with one device: a store in libsignal's form, and the key bundle that a server hands out. */
class Person {
  constructor(name) {
    this.address = new ProtocolAddress(name, 1)
    this.identity = keyhelper.generateIdentityKeyPair()
    this.registrationId = keyhelper.generateRegistrationId()
    this.signed = keyhelper.generateSignedPreKey(this.identity, 1)
    this.preKey = keyhelper.generatePreKey(1)
    this.sessions = new Map()
    this.storage = {
      loadSession: async id => this.sessions.has(id) && SessionRecord.deserialize(JSON.parse(this.sessions.get(id))),
      storeSession: async (id, record) => this.sessions.set(id, JSON.stringify(record.serialize())),
      isTrustedIdentity: async () => true,
      loadPreKey: async () => this.preKey.keyPair,
      removePreKey: async () => {},
      loadSignedPreKey: async () => this.signed.keyPair,
      getOurRegistrationId: async () => this.registrationId,
      getOurIdentity: async () => this.identity
    }
  }

  get bundle() {
    const { keyId, keyPair, signature } = this.signed
    return {
      identityKey: this.identity.pubKey,
      registrationId: this.registrationId,
      preKey: { keyId: this.preKey.keyId, publicKey: this.preKey.keyPair.pubKey },
      signedPreKey: { keyId, publicKey: keyPair.pubKey, signature }
    }
  }

  begin(other) {
    return new SessionBuilder(this.storage, other.address).initOutgoing(other.bundle)
  }

  seal(other, text) {
    return new SessionCipher(this.storage, other.address).encrypt(Buffer.from(text))
  }

  async open(other, { type, body }) {
    const cipher = new SessionCipher(this.storage, other.address)
    const text = type === 3 ? cipher.decryptPreKeyWhisperMessage(Buffer.from(body)) : cipher.decryptWhisperMessage(Buffer.from(body))
    return (await text).toString()
  }
}

test('of two sessions started at the same moment, both stay usable', async () => {
  const [a, b] = [new Person('a'), new Person('b')]
  await Promise.all([a.begin(b), b.begin(a)])
  for (let n = 0; n < 8; n++) {
    const [fromA, fromB] = [await a.seal(b, `a${n}`), await b.seal(a, `b${n}`)]
    assert.equal(await b.open(a, fromA), `a${n}`)
    assert.equal(await a.open(b, fromB), `b${n}`)
  }
})

test('each job on an address runs in the context of its own caller', async () => {
  const here = new AsyncLocalStorage()
  const friend = new Person('friend')
  const seen = []
  const sees = async name => {
    const person = new Person(name)
    for (const method of ['loadSession', 'storeSession']) {
      const does = person.storage[method]
      person.storage[method] = async (...args) => {
        seen.push([name, here.getStore()])
        return does(...args)
      }
    }
    await person.begin(friend)
    await person.seal(friend, 'hello')
  }
  const names = ['one', 'two', 'three']
  await Promise.all(names.map(name => here.run(name, () => sees(name))))
  assert.equal(seen.length, 12)
  assert.deepEqual(seen.filter(([name, store]) => name !== store), [])
})
