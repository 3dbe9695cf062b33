import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { test } from 'node:test'

import { downloadEncryptedContent, getMediaKeys } from 'baileys'

import { guarded } from './fetching.mjs'
import { seal } from './media.mjs'

const native = globalThis.fetch
globalThis.fetch = guarded(native)

const collect = async chunks => {
  const all = []
  for await (const chunk of chunks) all.push(chunk)
  return Buffer.concat(all)
}

async function site(context, answer) {
  const server = createServer((_, response) => answer(response))
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  context.after(() => server.closeAllConnections())
  context.after(() => server.close())
  return `http://127.0.0.1:${server.address().port}/`
}

test('Baileys reads a complete download', async context => {
  const keys = await getMediaKeys(Buffer.alloc(32, 1), 'image')
  const plain = Buffer.alloc(300_000, 'a')
  const sealed = await collect(seal([plain], keys))
  const address = await site(context, response => response.end(sealed.subarray(0, -10)))
  assert.deepEqual(await collect(await downloadEncryptedContent(address, keys)), plain)
})

test('a download that breaks off fails for Baileys, and does not end the process', async context => {
  const keys = await getMediaKeys(Buffer.alloc(32, 1), 'image')
  const address = await site(context, response => {
    response.writeHead(200, { 'content-length': '1000' })
    response.write(Buffer.alloc(160), () => setTimeout(() => response.destroy(), 20))
  })
  await assert.rejects(downloadEncryptedContent(address, keys).then(collect), /terminated/)
})

test('a download from a server that stops sending is aborted', async context => {
  const address = await site(context, response => {
    response.writeHead(200, { 'content-length': '1000' })
    response.write('a')
  })
  const response = await guarded(native, 100)(address)
  await assert.rejects(collect(response.body), /no data for 0.1 s/)
  const deaf = await site(context, () => {})
  await assert.rejects(guarded(native, 100)(deaf), /no data for 0.1 s/)
})
