import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { encryptedStream, getMediaKeys } from 'baileys'

import { Damaged, seal, SealedFile, unseal, verified } from './media.mjs'

const collect = async chunks => {
  const all = []
  for await (const chunk of chunks) all.push(chunk)
  return Buffer.concat(all)
}
const inPieces = (bytes, size) => Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) => bytes.subarray(n * size, (n + 1) * size))
const keysOf = () => getMediaKeys(Buffer.alloc(32, 5), 'image')

test('encrypted media are decrypted, in chunks of any size', async () => {
  const keys = await keysOf()
  for (const length of [0, 1, 15, 16, 17, 5000]) {
    const plain = randomBytes(length)
    const sealed = await collect(seal(inPieces(plain, 7), keys))
    for (const size of [1, 11, 16, 6000]) assert.deepEqual(await collect(unseal(inPieces(sealed, size), keys)), plain)
  }
})

test('Baileys encrypts the same file to the same bytes', async context => {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-media-'))
  context.after(() => rm(folder, { recursive: true }))
  const path = join(folder, 'photo')
  await writeFile(path, randomBytes(100_001))
  const theirs = await encryptedStream({ url: path }, 'image', {})
  context.after(() => rm(theirs.encFilePath))
  const ours = await SealedFile.of(path, 'image', theirs.mediaKey)
  assert.deepEqual(await collect(ours.chunks()), await readFile(theirs.encFilePath))
  for (const field of ['fileLength', 'fileSha256', 'fileEncSha256']) assert.deepEqual(ours[field], theirs[field])
  assert.equal(ours.sealedLength, (await readFile(theirs.encFilePath)).length)
})

test('a changed byte, a missing end, an empty file and a wrong hash are all damaged media', async () => {
  const keys = await keysOf()
  const sealed = await collect(seal([Buffer.from('hello')], keys))
  const changed = Buffer.from(sealed)
  changed[3] ^= 1
  for (const bytes of [changed, sealed.subarray(0, -1), Buffer.alloc(0), Buffer.alloc(10)]) {
    await assert.rejects(collect(unseal([bytes], keys)), Damaged)
  }
  await assert.rejects(collect(unseal([sealed], keys, Buffer.alloc(32))), Damaged)
})

test('an unencrypted file is taken only with the hash that its message names', async () => {
  const file = Buffer.from('a picture in a channel')
  const sha256 = createHash('sha256').update(file).digest()
  assert.deepEqual(await collect(verified([file.subarray(0, 5), file.subarray(5)], sha256)), file)
  await assert.rejects(collect(verified([file.subarray(1)], sha256)), Damaged)
})
