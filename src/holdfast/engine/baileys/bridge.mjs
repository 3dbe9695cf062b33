// The Baileys bridge: passes Holdfast's commands to Baileys and its reports back, one JSON object a line, for many
// links in one process. It makes no decisions and stores nothing. It ends when its standard input ends, so that no
// socket outlives the Holdfast process that opened it.

import './quiet.mjs'
import './inflating.mjs'

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { monitorEventLoopDelay } from 'node:perf_hooks'

import { guarded } from './fetching.mjs'
import { Link } from './link.mjs'
import { Pipe } from './pipe.mjs'
import { LinkDown } from './refusals.mjs'
import { routed } from './routes.mjs'

const PROTOCOL_VERSION = 2

const EXIT_STOPPED = 0
const EXIT_BUG = 70
const EXIT_PIPE = 74
const EXIT_HEARTBEAT_LOST = 75

// Holdfast asks for a heartbeat every few seconds. A Holdfast process that hangs can't renew the leases of its
// sessions, and its sockets must be closed before another process takes the sessions over. When that may happen soon,
// the heartbeat says how soon. A host without links has nothing to close and waits longer for a heartbeat.
const HEARTBEAT_TIMEOUT_MS = Number(process.argv[2] ?? 120) * 1000
const TICK_MS = 100
const LONGEST_TICK_MS = 1000

globalThis.fetch = guarded(routed(globalThis.fetch))

const links = new Map()
const delay = monitorEventLoopDelay({ resolution: 50 })
delay.enable()

const pipe = new Pipe({ input: process.stdin, output: process.stdout, take, fail: end })

let leftMs = HEARTBEAT_TIMEOUT_MS
let tickedAt = performance.now()
setInterval(() => {
  // A pause of the whole machine counts as one second: the parent stood still, too, and continues with this process.
  const now = performance.now()
  leftMs -= Math.min(now - tickedAt, LONGEST_TICK_MS)
  tickedAt = now
  if (leftMs < (links.size ? 0 : -HEARTBEAT_TIMEOUT_MS)) quit(EXIT_HEARTBEAT_LOST)
}, TICK_MS)

function take(command) {
  switch (command.c) {
    case 'heartbeat':
      leftMs = command.lifetimeMs ?? HEARTBEAT_TIMEOUT_MS
      return beat()
    case 'stop':
      return quit(EXIT_STOPPED)
    case 'open':
      return open(command)
    default:
      // A command for a link that has just closed: its `closed` has been reported.
      return links.get(command.link)?.execute(command)
  }
}

function open(command) {
  if (links.has(command.link)) return pipe.log('error', `link ${command.link} is open already`)
  const link = new Link(command, report => pipe.write(report), () => links.delete(command.link))
  links.set(command.link, link)
  link.open()
}

function beat() {
  const { rss, heapUsed } = process.memoryUsage()
  const longest = delay.count ? Math.max(0, delay.max / 1e6 - 50) : 0
  delay.reset()
  pipe.write({ r: 'heartbeat', rssBytes: rss, heapBytes: heapUsed, links: links.size, eventLoopDelayMs: longest })
}

function end(sentence) {
  if (sentence !== 'standard input ended') process.stderr.write(`${sentence}\n`)
  quit(EXIT_PIPE)
}

function quit(code) {
  for (const link of links.values()) link.abandon()
  process.exit(code)
}

// Baileys leaves some promises unhandled; a rejected one is no reason to drop the links of all companies.
let rejections = 0
process.on('unhandledRejection', reason => {
  if (reason instanceof LinkDown) return // expected: Baileys waited for something on a link that closed
  rejections += 1
  if (rejections <= 10 || rejections % 100 === 0) {
    pipe.log('warning', `promise ${rejections} was rejected and not handled: ${reason?.message ?? typeof reason}`)
  }
})

process.on('uncaughtException', error => {
  process.stderr.write(`uncaught: ${error?.message ?? typeof error}\n`)
  quit(EXIT_BUG)
})

const require = createRequire(import.meta.url)
const { version } = JSON.parse(readFileSync(require.resolve('baileys/package.json')))
pipe.write({
  r: 'hello',
  v: PROTOCOL_VERSION,
  engine: 'baileys',
  engineVersion: version,
  nodeVersion: process.version,
  pid: process.pid
})
