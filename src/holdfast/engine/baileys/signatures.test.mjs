import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { test } from 'node:test'

const { resolve } = createRequire(import.meta.url)
const curve = createRequire(resolve('libsignal'))('curve25519-js')
const verifySlowly = curve.verify

await import('./signatures.mjs')

test('signatures are judged as by curve25519-js, valid or damaged', () => {
  for (let n = 0; n < 40; n++) {
    const { private: secret, public: key } = curve.generateKeyPair(randomBytes(32))
    const message = randomBytes(n)
    const signature = curve.sign(secret, message, n % 2 ? randomBytes(64) : undefined)
    assert.equal(curve.verify(key, message, signature), true)
    assert.equal(verifySlowly(key, message, signature), true)
    for (const damaged of [0, 31, 32, 63]) {
      const other = Uint8Array.from(signature)
      other[damaged] ^= 1 << (n % 8)
      assert.equal(curve.verify(key, message, other), verifySlowly(key, message, Uint8Array.from(other)))
    }
    assert.equal(curve.verify(key, Buffer.concat([message, Buffer.of(0)]), signature), false)
    assert.equal(curve.verify(randomBytes(32), message, signature), false)
  }
})

test('keys for which no Edwards form exists verify nothing', () => {
  const signature = curve.sign(randomBytes(32), Buffer.from('text'))
  const minusOne = Buffer.concat([Buffer.of(0xec), Buffer.alloc(30, 0xff), Buffer.of(0x7f)])
  for (const key of [Buffer.alloc(32), Buffer.alloc(32, 255), minusOne, Buffer.concat([Buffer.of(1), Buffer.alloc(31)])]) {
    assert.equal(curve.verify(key, Buffer.from('text'), signature), verifySlowly(key, Buffer.from('text'), signature))
  }
})

test('keys and signatures of a wrong length are refused', () => {
  assert.throws(() => curve.verify(Buffer.alloc(31), Buffer.from('text'), Buffer.alloc(64)), /public key length/)
  assert.throws(() => curve.verify(Buffer.alloc(32), Buffer.from('text'), Buffer.alloc(63)), /signature length/)
})
