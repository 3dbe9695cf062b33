// Bounds how far zlib may inflate compressed data. Must be imported before Baileys, which takes its own references.
//
// Baileys inflates an account's history without a bound: 1.5 MB from a phone would become gigabytes in the process that
// holds the links of all companies. It imports `inflate` and `createInflate` by name; Node lets those be replaced until
// `syncBuiltinESMExports` is called.

import { syncBuiltinESMExports } from 'node:module'
import zlib from 'node:zlib'

export const MOST_BYTES = 64 * 1024 * 1024 // ten times the largest part of a history seen so far

const { inflate, createInflate } = zlib

zlib.inflate = (data, options, done) => {
  const [given, callback] = typeof options === 'function' ? [{}, options] : [options, done]
  return inflate(data, { maxOutputLength: MOST_BYTES, ...given }, callback)
}

function boundedStream(options) {
  const stream = createInflate(options)
  let bytes = 0
  const push = stream.push.bind(stream)
  stream.push = (chunk, encoding) => {
    bytes += chunk?.length ?? 0
    if (bytes <= MOST_BYTES) return push(chunk, encoding)
    stream.destroy(new RangeError(`compressed data of more than ${MOST_BYTES} bytes`))
    return false
  }
  return stream
}

Object.defineProperty(zlib, 'createInflate', { value: boundedStream, enumerable: true, configurable: true })
syncBuiltinESMExports()
