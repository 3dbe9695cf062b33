import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'

import { Pipe } from './pipe.mjs'

function fixture() {
  const input = new PassThrough()
  const output = new PassThrough()
  const taken = []
  const failures = []
  const pipe = new Pipe({ input, output, take: command => taken.push(command), fail: sentence => failures.push(sentence) })
  return { input, output, taken, failures, pipe }
}

const turn = () => new Promise(resolve => setImmediate(resolve))

test('lines are read whatever the chunks of the stream', async () => {
  const { input, taken } = fixture()
  const bytes = Buffer.from('{"c":"a","text":"مرحبا"}\n{"c":"b"}\n')
  for (const byte of bytes) input.write(Buffer.from([byte]))
  await turn()
  input.write(bytes)
  await turn()
  assert.deepEqual(taken.map(({ c }) => c), ['a', 'b', 'a', 'b'])
  assert.equal(taken[0].text, 'مرحبا')
})

test('a line that is not JSON fails without being shown', async () => {
  const { input, failures } = fixture()
  input.write('secret 962700000001\n')
  await turn()
  assert.deepEqual(failures, ['a command of 19 bytes is not JSON'])
})

test('an endless command fails', async () => {
  const { input, failures } = fixture()
  for (let n = 0; n < 17; n++) input.write(Buffer.alloc(1024 * 1024, 'x'))
  await turn()
  assert.ok(failures.includes('a command is longer than a line of the pipe may be'))
})

test('the end of the input fails', async () => {
  const { input, failures } = fixture()
  input.end()
  await turn()
  await turn()
  assert.deepEqual(failures, ['standard input ended'])
})

test('reports of one iteration of the event loop are written together, as lines in order', async () => {
  const { output, pipe } = fixture()
  const chunks = []
  output.on('data', chunk => chunks.push(chunk.toString()))
  pipe.write({ r: 'a' })
  pipe.log('info', 'x'.repeat(500))
  await turn()
  await turn()
  assert.equal(chunks.length, 1)
  const [first, second, rest] = chunks[0].split('\n')
  assert.deepEqual(JSON.parse(first), { r: 'a' })
  assert.equal(JSON.parse(second).message.length, 200)
  assert.equal(rest, '')
})

test('lone surrogates, which anybody can send, are written as the replacement character', async () => {
  const { output, pipe } = fixture()
  const chunks = []
  output.on('data', chunk => chunks.push(chunk.toString()))
  pipe.write({ r: 'a', texts: ['x\ud83dy', 'whole 👋', 'spelt out \\ud83d'], names: [{ 'k\ud83d': { 'v\udc00': 1 } }] })
  await turn()
  await turn()
  assert.deepEqual(JSON.parse(chunks[0]).texts, ['x\ufffdy', 'whole 👋', 'spelt out \\ud83d'])
  assert.deepEqual(JSON.parse(chunks[0]).names, [{ 'k\ufffd': { 'v\ufffd': 1 } }])
  assert.ok(!chunks[0].includes('x\\ud83d'))
})

test('a report that is too long for a line is not sent', () => {
  const { pipe, failures } = fixture()
  assert.equal(pipe.write({ r: 'a', text: 'x'.repeat(1000) }), true)
  assert.equal(pipe.write({ r: 'a', text: 'x'.repeat(16 * 1024 * 1024) }), false)
  assert.equal(pipe.write({ r: 'a', text: 'م'.repeat(9 * 1024 * 1024) }), false)
  assert.deepEqual(failures, [])
})
