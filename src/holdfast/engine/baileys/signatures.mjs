// Verifies Signal's signatures with Node's own crypto. Imported for that by the module that creates repositories.
//
// libsignal verifies with curve25519-js, which computes in JavaScript: 8 ms for a signature where OpenSSL needs 0.1. Each
// login verifies two, each new chat one, each message in a group one, and all links of a host wait meanwhile.
//
// The scheme is XEd25519: an Ed25519 signature that is verified with the X25519 key of the signer, of which the Edwards
// form is computed first. The signature's highest bit is the sign of that form's x coordinate.

import { createPublicKey, verify } from 'node:crypto'
import { createRequire } from 'node:module'

const requireAsLibsignal = createRequire(createRequire(import.meta.url).resolve('libsignal'))
const curve = requireAsLibsignal('curve25519-js')

const P = 2n ** 255n - 19n
const DER_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')
const MOST_KEPT = 1000

/** Verified keys in Edwards form, by key and sign bit: WhatsApp's own keys verify every login. Oldest first. */
const kept = new Map()

curve.verify = (publicKey, message, signature) => {
  if (signature.length !== 64) throw new Error('wrong signature length')
  if (publicKey.length !== 32) throw new Error('wrong public key length')
  const plain = Buffer.from(signature)
  const sign = plain[63] & 128
  plain[63] &= 127
  return verify(null, message, edwardsKey(publicKey, sign), plain)
}

function edwardsKey(publicKey, sign) {
  const name = Buffer.from(publicKey).toString('base64') + sign
  let key = kept.get(name)
  if (key === undefined) {
    key = createPublicKey({ key: Buffer.concat([DER_PREFIX, edwardsY(publicKey, sign)]), format: 'der', type: 'spki' })
    kept.set(name, key)
    if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value)
  }
  return key
}

/** y = (u - 1) / (u + 1), little-endian, with the sign of x in the highest bit. */
function edwardsY(publicKey, sign) {
  const bytes = Buffer.from(publicKey)
  bytes[31] &= 127
  const u = BigInt(`0x${bytes.reverse().toString('hex')}`) % P
  const y = ((u - 1n + P) * inverse(u + 1n)) % P
  const form = Buffer.from(y.toString(16).padStart(64, '0'), 'hex').reverse()
  form[31] |= sign
  return form
}

/** The inverse modulo P; of 0 it is 0, as in curve25519-js. */
function inverse(value) {
  let [a, b, x, y] = [value % P, P, 1n, 0n]
  if (a === 0n) return 0n
  while (a !== 1n) {
    const quotient = b / a
    ;[a, b, x, y] = [b - quotient * a, a, y - quotient * x, x]
  }
  return ((x % P) + P) % P
}
