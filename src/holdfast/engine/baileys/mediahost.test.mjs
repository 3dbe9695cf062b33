import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { MediaHosts, UploadFailed } from './mediahost.mjs'
import { Route } from './routes.mjs'

const NOBODY = '127.0.0.1:1' // nothing listens there
const KEYS = { type: 'image', mediaKey: Buffer.alloc(32).toString('base64'), directPath: '/v/1' }

const servers = (...names) => ({
  tag: 'iq',
  attrs: {},
  content: [
    { tag: 'media_conn', attrs: { auth: 'pass', ttl: '60' }, content: names.map(hostname => ({ tag: 'host', attrs: { hostname } })) }
  ]
})

async function fixture(context, ...answers) {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-hosts-'))
  context.after(() => rm(folder, { recursive: true }))
  const asked = []
  const query = async question => {
    asked.push(question.attrs.xmlns)
    const answer = answers[Math.min(asked.length, answers.length) - 1]
    if (answer instanceof Error) throw answer
    return answer
  }
  return { hosts: new MediaHosts({ query, route: new Route({}) }), folder, file: join(folder, 'copy'), asked }
}

const failure = (hosts, keys, file) => hosts.download({ keys, file, mostBytes: 100 }).then(assert.fail, error => error.code)

test('the sender’s path is only ever used on WhatsApp’s server', async context => {
  const { hosts, file } = await fixture(context, servers(NOBODY))
  for (const directPath of [undefined, '', '@127.0.0.1/v/1', '.example.org/v/1', 'https://127.0.0.1/v/1']) {
    assert.equal(await failure(hosts, { ...KEYS, directPath }, file), 'gone')
  }
  assert.equal(await failure(hosts, { ...KEYS, directPath: '//example.org/v/1' }, file), 'engine-error')
  assert.ok(!existsSync(`${file}.part`))
})

test('a failed query for the servers is repeated; an answer is cached', async context => {
  const silence = Object.assign(new Error('Timed Out'), { output: { statusCode: 408 } })
  const { hosts, file, asked } = await fixture(context, silence, servers())
  assert.equal(await failure(hosts, KEYS, file), 'timeout')
  assert.equal(await failure(hosts, KEYS, file), 'engine-error')
  await Promise.all([failure(hosts, KEYS, file), failure(hosts, KEYS, file)])
  assert.equal(asked.length, 2)
})

test('an upload reports why it failed, and the next one may use another server', async context => {
  const { hosts, folder, asked } = await fixture(context, servers(NOBODY))
  const upload = file => hosts.upload({ file, type: 'image', timeS: 1_700_000_000 })
  await assert.rejects(upload(join(folder, 'none')), new UploadFailed("the image could not be uploaded: its file can't be read (ENOENT)"))
  await assert.rejects(upload(folder), /its path is not a file/)
  assert.deepEqual(asked, [])
  await writeFile(join(folder, 'photo'), 'photo')
  await assert.rejects(upload(join(folder, 'photo')), UploadFailed)
  await assert.rejects(upload(join(folder, 'photo')), /ECONNREFUSED/)
  assert.equal(asked.length, 2)
})
