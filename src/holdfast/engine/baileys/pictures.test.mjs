import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, request } from 'node:http'
import { test } from 'node:test'

import { pictureAt } from './pictures.mjs'
import { Queries } from './queries.mjs'
import { QueryLimits } from './querylimits.mjs'
import { NoAnswer } from './recipients.mjs'
import { NotThere } from './refusals.mjs'

const ADDRESS = 'https://pps.example.test/v/1.jpg?oh=1'
const JPEG = Buffer.from('\xff\xd8\xff\xe0picture', 'latin1')

// A route to a server on this machine, whatever the address; TLS is not what these tests are about.
async function routeTo(context, answer) {
  const server = createServer((asked, response) => answer(response, asked)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  context.after(() => (server.closeAllConnections(), server.close()))
  const asked = []
  const through = (url, options, answered) => {
    asked.push(String(url))
    return request({ ...options, host: '127.0.0.1', port: server.address().port, path: url.pathname, agent: false }, answered)
  }
  return { asked, request: through }
}

const serving = (context, bytes, status = 200) => routeTo(context, response => response.writeHead(status).end(bytes))

test('a picture is fetched on the link’s route, from where WhatsApp says', async context => {
  const route = await serving(context, JPEG)
  const asked = []
  const sock = { profilePictureUrl: async (...given) => (asked.push(given), ADDRESS) }
  const queries = new Queries({ sock, limits: new QueryLimits(), route })
  const found = await queries.run('picture-file', { jid: '1@s.whatsapp.net' })
  assert.deepEqual(found, { mimetype: 'image/jpeg', base64: JPEG.toString('base64') })
  assert.deepEqual([asked, route.asked], [[['1@s.whatsapp.net', 'preview']], [ADDRESS]])
})

test('the first bytes decide what a picture is; other files are none', async context => {
  const types = { '\x89PNG\r\n\x1a\n…': 'image/png', 'RIFF\x10\0\0\0WEBPVP8 ': 'image/webp' }
  for (const [start, type] of Object.entries(types)) {
    assert.equal((await pictureAt(ADDRESS, await serving(context, Buffer.from(start, 'latin1')))).mimetype, type)
  }
  for (const other of ['', '<svg xmlns="http://www.w3.org/2000/svg"/>', '<html>', 'RIFF\x10\0\0\0WAVEfmt ', 'GIF89a']) {
    await assert.rejects(pictureAt(ADDRESS, await serving(context, Buffer.from(other, 'latin1'))), NotThere)
  }
})

test('a file of more than 128 KiB is no picture, and is not read to its end', async context => {
  const most = Buffer.concat([JPEG, Buffer.alloc(128 * 1024 - JPEG.length)])
  assert.equal(Buffer.from((await pictureAt(ADDRESS, await serving(context, most))).base64, 'base64').length, most.length)
  let closed
  const endless = await routeTo(context, response => {
    closed = once(response, 'close')
    const more = () => response.destroyed || response.write(Buffer.alloc(65_536), more)
    response.write(JPEG, more)
  })
  await assert.rejects(pictureAt(ADDRESS, endless), NotThere)
  await closed
})

test('a picture that is gone is none; refusals, redirects and broken connections are errors', async context => {
  for (const status of [403, 404, 410]) await assert.rejects(pictureAt(ADDRESS, await serving(context, '', status)), NotThere)
  for (const status of [302, 429, 500]) {
    await assert.rejects(pictureAt(ADDRESS, await serving(context, JPEG, status)), new Error(`pps.example.test answered ${status}`))
  }
  const cut = await routeTo(context, response => response.write(JPEG, () => response.destroy()))
  await assert.rejects(pictureAt(ADDRESS, cut), { code: 'ECONNRESET' })
})

test('a silent server, or one that never finishes, is a timeout', async context => {
  await assert.rejects(pictureAt(ADDRESS, await routeTo(context, () => {}), 50), NoAnswer)
  await assert.rejects(pictureAt(ADDRESS, await routeTo(context, response => response.write(JPEG)), 50), NoAnswer)
})

test('no other address than https is fetched', async () => {
  const route = { request: () => assert.fail('fetched') }
  for (const address of ['http://pps.example.test/1', 'file:///etc/passwd', 'data:image/png;base64,iVBORw0KGgo=', '/v/1', '']) {
    await assert.rejects(pictureAt(address, route), /not an https URL/)
  }
})
