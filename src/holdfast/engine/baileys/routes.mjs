// How the traffic of a link leaves this machine: directly, or only through the link's proxy. Every function that opens
// a connection to WhatsApp requires a route, so that no request can bypass the proxy by mistake.
//
// `https-proxy-agent` is not used: it has no timeout, so a silent proxy would keep a socket open for ever, and it
// passes on the proxy's refusal as if WhatsApp had answered.

import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { isIP } from 'node:net'
import { Readable } from 'node:stream'
import { connect as tlsConnect } from 'node:tls'

import { Agent } from 'agent-base'
import { SocksClient } from 'socks'

const TUNNEL_PART = 2 / 3 // of the link's connect timeout, so that the error names the proxy
const LOGIN_REFUSED = 407
const SOCKS_LOGIN = /Authentication failed|no accepted authentication/i
const SOCKS_TIMEOUT = /timed out/i
const SOCKS_REJECTED = /rejected connection/i
const FIXED_MEDIA_ORIGIN = 'https://mmg.whatsapp.net' // as in Baileys

/**
 * A failure of the proxy. `kind`: `unreachable`, `login`, `refused`, `timeout` or `tls`. The message has no
 * credentials.
 */
export class ProxyFailure extends Error {
  constructor(kind, proxy, message) {
    super(`proxy ${proxy.host}: ${message}`)
    this.kind = kind
  }
}

/** How all traffic of one link reaches the network. */
export class Route {
  /**
   * @param proxyUrl          http, https or socks5, with credentials; none: a direct connection
   * @param proxyAddresses    the proxy's IP addresses; none: its name is resolved
   * @param connectTimeoutMs  the link's own
   */
  constructor({ proxyUrl, proxyAddresses, connectTimeoutMs = 15_000 }) {
    if (proxyUrl) this.agent = new ProxyAgent(new URL(proxyUrl), proxyAddresses, connectTimeoutMs * TUNNEL_PART)
  }

  /** Names the media server of the link. Baileys has a fixed one in its addresses; it may be blocked, or another one. */
  mediaOrigin = async () => FIXED_MEDIA_ORIGIN

  /** As `https.request`, on this route. */
  request(url, options, answered) {
    return httpsRequest(url, { ...options, ...(this.agent && { agent: this.agent }) }, answered)
  }
}

/** `fetch` over the `Route` that Baileys passes as its `dispatcher`; refuses to run without one. */
export function routed(fetch) {
  return async (address, { dispatcher: route, ...options } = {}) => {
    if (!(route instanceof Route)) throw new Error('a request without a route')
    const { origin, pathname, search } = new URL(address)
    if (origin === FIXED_MEDIA_ORIGIN) address = (await route.mediaOrigin()) + pathname + search
    return route.agent ? fetchThrough(route, address, options) : fetch(address, options)
  }
}

async function fetchThrough(route, address, { method, headers, signal }) {
  const { promise, resolve, reject } = Promise.withResolvers()
  route.request(address, { method, headers, signal }, resolve).on('error', reject).end()
  const answer = await promise
  return new Response(Readable.toWeb(answer), { status: answer.statusCode, statusText: answer.statusMessage })
}

// agent-base detects by a stack trace whether a request is TLS, and this process has no stack traces (quiet.mjs). So
// the request says it, and an agent without a protocol serves both.
class ProxyAgent extends Agent {
  constructor(proxy, addresses, deadlineMs) {
    super()
    this.proxy = proxy
    this.way = { lookup: addresses && fixedLookup(addresses), deadlineMs }
  }

  get protocol() {
    return undefined
  }

  set protocol(_) {}

  async connect(request, options) {
    const open = this.proxy.protocol.startsWith('socks') ? socksTunnel : httpTunnel
    const socket = await open(this.proxy, options, request, this.way)
    if (request.protocol !== 'https:') return socket
    const { path: _, port: __, ...tls } = options
    const servername = isIP(tls.host) ? undefined : tls.servername || tls.host // SNI allows no IP addresses
    return tlsConnect({ ...tls, servername, socket }) // the certificate is verified against the host
  }
}

// The name was checked once and must not resolve to another address later.
function fixedLookup(addresses) {
  const found = addresses.map(address => ({ address, family: isIP(address) }))
  return (_, { all }, done) => (all ? done(null, found) : done(null, found[0].address, found[0].family))
}

// The proxy resolves the target's name; this machine does not.
function httpTunnel(proxy, { host, port }, request, { lookup, deadlineMs }) {
  const target = `${host.includes(':') ? `[${host}]` : host}:${port}`
  const { promise, resolve, reject } = Promise.withResolvers()
  const connect = (proxy.protocol === 'https:' ? httpsRequest : httpRequest)({
    method: 'CONNECT',
    host: bare(proxy.hostname),
    port: proxy.port,
    servername: isIP(bare(proxy.hostname)) ? '' : proxy.hostname, // Node would take it from the Host header
    path: target,
    headers: { Host: target, ...authorization(proxy) },
    agent: false,
    lookup
  })
  const abandon = () => connect.destroy()
  request.once('close', abandon)
  let kind = 'unreachable'
  const deadline = setTimeout(() => {
    kind = 'timeout'
    connect.destroy(new Error(`no tunnel within ${deadlineMs / 1000} s`)) // even if it sends a byte now and then
  }, deadlineMs)
  connect.on('socket', socket => {
    if (!socket.encrypted) return
    socket.once('connect', () => (kind = 'tls')).once('secureConnect', () => (kind = 'unreachable'))
  })
  connect.on('error', error => reject(new ProxyFailure(kind, proxy, error.message)))
  connect.on('close', () => clearTimeout(deadline))
  connect.on('connect', (answer, socket, head) => {
    request.off('close', abandon)
    clearTimeout(deadline)
    if (answer.statusCode !== 200) {
      socket.destroy()
      return reject(refusal(proxy, answer))
    }
    if (head.length) socket.unshift(head)
    resolve(socket)
  })
  connect.end()
  return promise
}

function authorization({ username, password }) {
  if (!username && !password) return {}
  const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  return { 'Proxy-Authorization': `Basic ${Buffer.from(credentials).toString('base64')}` }
}

function refusal(proxy, { statusCode }) {
  if (statusCode === LOGIN_REFUSED) return new ProxyFailure('login', proxy, 'it does not accept the user name and password')
  return new ProxyFailure('refused', proxy, `it answered ${statusCode}`)
}

async function socksTunnel(proxy, { host, port }, _, { lookup, deadlineMs }) {
  try {
    const { socket } = await SocksClient.createConnection({
      proxy: { host: bare(proxy.hostname), port: Number(proxy.port), type: 5, ...socksLogin(proxy) },
      command: 'connect',
      destination: { host, port: Number(port) },
      timeout: deadlineMs,
      socket_options: { lookup }
    })
    return socket
  } catch (error) {
    throw new ProxyFailure(socksKind(error), proxy, error.message)
  }
}

function socksLogin({ username, password }) {
  if (!username && !password) return {}
  return { userId: decodeURIComponent(username), password: decodeURIComponent(password) }
}

function socksKind({ message }) {
  if (SOCKS_LOGIN.test(message)) return 'login'
  if (SOCKS_TIMEOUT.test(message)) return 'timeout'
  return SOCKS_REJECTED.test(message) ? 'refused' : 'unreachable'
}

const bare = hostname => hostname.replace(/^\[|\]$/g, '')
