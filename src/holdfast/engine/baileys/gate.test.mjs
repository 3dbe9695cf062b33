import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Gate } from './gate.mjs'

const fixture = () => {
  const gate = new Gate()
  const left = []
  return { gate, left, pass: name => gate.pass(() => left.push(name)), mark: name => gate.mark(() => left.push(name)) }
}

test('a frame is sent at once when no commit is pending', () => {
  const { left, pass } = fixture()
  pass('a')
  assert.deepEqual(left, ['a'])
})

test('a frame waits for every commit that was started before it', () => {
  const { gate, left, pass } = fixture()
  const one = gate.begin()
  const two = gate.begin()
  pass('a')
  gate.committed(two)
  assert.deepEqual(left, [])
  gate.committed(one)
  assert.deepEqual(left, ['a'])
})

test('a frame does not wait for a commit that was started after it', () => {
  const { gate, left, pass } = fixture()
  const one = gate.begin()
  pass('a')
  gate.begin()
  gate.committed(one)
  assert.deepEqual(left, ['a'])
})

test('frames never overtake each other', () => {
  const { gate, left, pass } = fixture()
  const one = gate.begin()
  pass('a')
  const two = gate.begin()
  pass('b')
  gate.committed(two)
  pass('c')
  assert.deepEqual(left, [])
  gate.committed(one)
  assert.deepEqual(left, ['a', 'b', 'c'])
})

test('a mark comes after the frames before it, and waits for no commit of its own', () => {
  const { gate, left, pass, mark } = fixture()
  const one = gate.begin()
  pass('a')
  gate.begin()
  mark('a is written')
  assert.deepEqual(left, [])
  gate.committed(one)
  assert.deepEqual(left, ['a', 'a is written'])
})

test('a closed gate sends nothing more', () => {
  const { gate, left, pass } = fixture()
  const one = gate.begin()
  pass('a')
  gate.close()
  gate.committed(one)
  pass('b')
  assert.deepEqual(left, [])
  assert.equal(gate.waiting, 0)
})

test('a frame that is handed over while another is being sent keeps its place', () => {
  const { gate, left, pass } = fixture()
  const one = gate.begin()
  gate.pass(() => {
    left.push('a')
    pass('c')
  })
  pass('b')
  gate.committed(one)
  assert.deepEqual(left, ['a', 'b', 'c'])
})
