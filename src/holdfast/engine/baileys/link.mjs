// One link: a Baileys socket from `open` to its single `closed`, behind its gate. It decides nothing: it never
// reconnects, retries or interprets codes.

import { DisconnectReason, initAuthCreds } from 'baileys'

import { assemble } from './assembly.mjs'
import { COLLECTIONS, VERSIONS } from './appstate.mjs'
import { shortened, withStubs } from './bounds.mjs'
import { removeKeylessDevices } from './bundles.mjs'
import { Commands } from './commands.mjs'
import { Commits } from './commits.mjs'
import { groupChanges } from './groupchanges.mjs'
import { KeyStore } from './keys.mjs'
import { Lane } from './lane.mjs'
import { Liveness } from './liveness.mjs'
import { PairingCodes } from './pairing_codes.mjs'
import { QueryLimits } from './querylimits.mjs'
import { LinkDown } from './refusals.mjs'
import { PendingRequests } from './requests.mjs'
import { ProxyFailure } from './routes.mjs'
import { ignoringErrors, release } from './socket.mjs'
import { removeCompanion } from './stanzas.mjs'
import { json } from './values.mjs'

const END_GRACE_MS = 100
const PROXY_CODES = { unreachable: -2, login: -3, refused: -4, timeout: -5, tls: -6 } // as in `holdfast.session.engine`
const APP_STATE_KEPT = { appStateKept: true } // in credentials: all settings of the account were reported to Holdfast
const CATCH_UP_AFTER_MS = 5000
const QR_EXPIRED = 'QR refs attempts ended' // Baileys' own text

const { connectionClosed: TRANSPORT_CLOSED, timedOut: TIMED_OUT, loggedOut: LOGGED_OUT, badSession: UNKNOWN } = DisconnectReason

export class Link {
  #commits = new Commits({ report: report => this.#report(report) })
  #liveness = new Liveness({ report: report => this.#report(report) })
  #lane = new Lane()
  #limits = new QueryLimits()
  #requests = new PendingRequests({ emit: request => this.#report(request) })
  #over = false
  #opened = false
  #endAttributes = {} // attributes of the stream error or failure that ends the link
  #pairingCodes = new PairingCodes({ sock: () => this.sock, report: report => this.#report(report) })
  #commands = new Commands({
    parts: () => {
      if (!this.#opened) throw new LinkDown('the link is not open')
      return this
    },
    afterFrames: callback => this.#commits.afterFrames(callback),
    report: report => this.#report(report)
  })

  /**
   * @param order    the `open` command
   * @param report   report => whether it was short enough to be reported to Python
   * @param ended    () => void, once, after `closed` was reported
   */
  constructor(order, report, ended) {
    this.id = order.link
    this.order = order
    this.emit = report
    this.ended = ended
    this.store = new KeyStore({
      ask: (type, ids) => this.#requests.ask({ r: 'keys-wanted', type, ids }),
      commit: changes => this.#commit(changes),
      isOutstanding: seq => this.#commits.isOutstanding(seq),
      hold: versions => this.appState.hold(versions),
      json
    })
  }

  // -- from Python

  async open() {
    try {
      this.creds = await this.#credentials()
      if (!this.#over) this.#connect()
    } catch (error) {
      this.#finish(UNKNOWN, `the link could not be opened: ${error.message}`)
    }
  }

  execute(command) {
    switch (command.c) {
      case 'cut':
        return this.#finish(TRANSPORT_CLOSED, 'cut')
      case 'send':
        return this.#commands.send(command)
      case 'download':
        return this.#commands.download(command)
      case 'query':
        return this.#commands.query(command)
      case 'operation':
        return this.#commands.operation(command)
      case 'ping':
        return this.sock && this.#liveness.ping(this.sock, command.n)
      case 'presence':
        return this.presence?.ask(command.available)
      case 'pairing-code':
        return this.#pairingCodes.answer(command)
      case 'passkey-assertion':
        return this.passkey?.answer(command.assertion)
      case 'passkey-confirm':
        return this.passkey?.confirm()
      case 'logout':
        return this.#logOut()
      case 'committed':
        return this.#committed(command.seq)
      case 'keys':
        return this.#requests.answer(command.request, command.values)
      case 'plaintext':
        return this.#requests.answer(command.request, command.plaintext ?? null)
      case 'sent-content':
        return this.#requests.answer(command.request, command)
      case 'answered-message':
        return this.#requests.answer(command.request, command.message)
    }
  }

  /** Drop the socket without reporting anything: the process is about to end. */
  abandon() {
    this.#over = true
    this.sock?.ws.socket?.terminate()
  }

  // -- opening

  async #credentials() {
    if (this.order.credentials == null) {
      const creds = { ...initAuthCreds(), additionalData: APP_STATE_KEPT }
      await this.#commits.whenDurable(this.#commit({ credentials: json.stringify(creds) }))
      return creds
    }
    const creds = json.parse(this.order.credentials)
    // A pairing by code that was never finished leaves `me` without an account: the link must register, not log in.
    if (creds.me && !creds.account) {
      delete creds.me
      delete creds.pairingCode
    }
    return creds
  }

  #connect() {
    Object.assign(
      this,
      assemble({
        order: this.order,
        creds: this.creds,
        store: this.store,
        lane: this.#lane,
        limits: this.#limits,
        requests: this.#requests,
        report: report => this.#report(report),
        commit: content => this.#commit(content),
        durable: seq => this.#commits.whenDurable(seq),
        note: facts => this.#note(facts),
        showQr: (qr, validMs) => this.#showQr(qr, validMs),
        noQrLeft: () => this.#finish(TIMED_OUT, QR_EXPIRED)
      })
    )
    this.#commits.guard(this.sock.ws.socket)
    this.#listen(this.sock)
  }

  #listen({ ev, ws }) {
    // Baileys would wait up to 30 s for a polite close before it reports that a link has ended.
    ws.close = async () => ws.socket.terminate()
    ws.on('frame', ignoringErrors(frame => this.#liveness.frame(frame)))
    ws.on('frame', ignoringErrors(removeKeylessDevices)) // Baileys emits a frame before it handles it
    // Baileys listens to this without doing anything, which keeps `ws` from raising the error that Baileys would
    // report.
    ws.prependListener('error', error => {
      if (error instanceof ProxyFailure) this.#finish(PROXY_CODES[error.kind], error.message)
    })
    ws.on('unexpected-response', (_, { statusCode }) =>
      this.#finish(statusCode, `WebSocket Error (Unexpected server response: ${statusCode})`)
    )
    ws.prependListener('CB:iq,type:set,pair-device', ignoringErrors(node => this.codes.lengthen(node)))
    this.passkey.listen(ws)
    ws.prependListener('CB:stream:error', ignoringErrors(node => this.#noteEnd(node)))
    ws.prependListener('CB:failure', ignoringErrors(node => this.#noteEnd(node)))
    const [handle] = ws.listeners('CB:message')
    ws.off('CB:message', handle)
    ws.on('CB:message', ignoringErrors(this.arrivals.around(handle)))
    ws.prependListener('CB:receipt', ignoringErrors(node => this.#receipt(node)))
    ws.prependListener('CB:ack,class:message', ignoringErrors(({ attrs }) => this.answers.ack(attrs)))
    ws.on('CB:message', ignoringErrors(({ attrs }) => this.groupNames.observe(attrs.from)))
    ws.on('CB:message', ignoringErrors(({ attrs }) => this.usernames.observe(attrs)))
    ws.prependListener('CB:notification,type:w:gp2', ignoringErrors(({ attrs }) => this.groups.forget(attrs.from)))
    ws.on('CB:notification,type:w:gp2', ignoringErrors(node => this.groupNames.changed(node)))
    for (const type of ['w:gp2', 'picture']) {
      ws.prependListener(`CB:notification,type:${type}`, ignoringErrors(node => this.#groupChanged(node)))
    }
    ws.prependListener('CB:call', ignoringErrors(node => this.calls.observe(node)))
    for (const tag of ['presence', 'chatstate']) ws.on(`CB:${tag}`, ignoringErrors(node => this.contacts.observe(node)))
    ev.on('creds.update', () => this.#credentialsChanged())
    ev.on('connection.update', update => this.#update(update))
    ev.on('message-capping.update', ignoringErrors(quota => this.locks.newChatQuota(quota)))
  }

  #credentialsChanged() {
    this.#commit({ credentials: json.stringify(this.creds), paired: this.#isPaired() })
    this.presence.credentialsChanged()
  }

  #update({ qr, isNewLogin, connection, lastDisconnect, reachoutTimeLock }) {
    if (qr) this.codes.next(qr)
    if (isNewLogin) this.#report({ r: 'paired', ...this.#names(), platform: this.creds.platform })
    if (reachoutTimeLock) this.locks.reachOutLock(reachoutTimeLock)
    if (connection === 'open') {
      this.#opened = true
      this.presence.opened()
      this.history.resume()
      setTimeout(() => this.#catchUp().catch(() => {}), CATCH_UP_AFTER_MS * (1 + Math.random()))
      this.#report({ r: 'opened', ...this.#names() })
    }
    if (connection === 'close') {
      const error = lastDisconnect?.error
      this.#finish(error?.output?.statusCode, error?.message ?? '', this.#endAttributes)
    }
  }

  // Credentials of an earlier Holdfast or of another program: their settings were fetched and not kept. Fetched once
  // more, and not at the moment when many links open.
  async #catchUp() {
    const { creds, sock } = this
    if (this.#over || creds.additionalData?.appStateKept || !creds.myAppStateKeyId) return
    await sock.authState.keys.set({ [VERSIONS]: Object.fromEntries(COLLECTIONS.map(name => [name, null])) })
    await sock.resyncAppState(COLLECTIONS, false)
    this.#note(APP_STATE_KEPT)
  }

  // What the bridge itself has to know after a restart is part of the credentials.
  #note(facts) {
    const { creds, sock } = this
    sock.ev.emit('creds.update', Object.assign(creds, { additionalData: { ...creds.additionalData, ...facts } }))
  }

  #showQr(qr, validMs) {
    this.#report({ r: 'qr', qr, validMs })
    this.#pairingCodes.qrShown()
  }

  #names() {
    const { id, lid } = this.creds.me
    return { jid: id, lid: lid ?? undefined }
  }

  // -- frames in

  // Baileys ends the link by itself, unless it fails to handle the node.
  #noteEnd(node) {
    setTimeout(() => this.#finish(UNKNOWN, `WhatsApp ended the link (${node.tag})`, this.#endAttributes), END_GRACE_MS)
    const child = Array.isArray(node.content) ? node.content[0] : undefined
    const attributes = { ...node.attrs, ...child?.attrs, ...(child?.tag && { child: child.tag }) }
    this.#endAttributes = Object.fromEntries(Object.entries(attributes).map(([name, value]) => [name, String(value).slice(0, 200)]))
  }

  // An empty commit is a barrier: Baileys' ack of this receipt, after which WhatsApp never repeats it, waits until the
  // report above is durable.
  #receipt({ attrs, content }) {
    const read = this.answers.readElsewhere(attrs, content)
    if (read) this.#commit({ changes: [read] })
    else if (this.answers.receipt(attrs, content)) this.#commit({})
  }

  // Committed before Baileys acknowledges the notification.
  #groupChanged(node) {
    const changes = groupChanges(node, jid => this.answers.plain(jid))
    if (changes.length) this.#commit({ groupChanges: changes })
  }

  // -- ending by request

  async #logOut() {
    const jid = this.creds?.me?.id
    try {
      if (jid && this.sock) await this.sock.query(removeCompanion(jid))
      this.#finish(LOGGED_OUT, 'Intentional Logout')
    } catch (error) {
      this.#finish(TIMED_OUT, `the logout was not confirmed: ${error.message}`)
    }
  }

  // -- reports to Python

  #report(report) {
    if (this.#over) return
    if (this.emit({ link: this.id, ...report })) return
    // Without a shorter one, WhatsApp would deliver the message, receipt or notification again, and the next link would
    // end in the same way.
    const short = report.decrypted ? withStubs(report) : shortened(report)
    if (short && this.emit({ link: this.id, ...short })) return
    this.#finish(UNKNOWN, `a report (${report.r}) is longer than a line of the pipe may be`)
  }

  // `me` alone may be from a pairing by code that was never finished.
  #isPaired() {
    return Boolean(this.creds.me && this.creds.account)
  }

  #commit(content) {
    return this.#over ? 0 : this.#commits.begin(content)
  }

  #committed(seq) {
    this.store.committed(seq)
    this.#commits.committed(seq)
  }

  // -- closing

  #finish(code, detail, attributes = {}) {
    if (this.#over) return
    const known = Number.isInteger(code) ? code : UNKNOWN
    this.#report({ r: 'closed', code: known, detail: String(detail).slice(0, 200), attributes })
    this.#over = true
    this.#commits.close()
    this.ended()
    this.#release().catch(() => {})
  }

  async #release() {
    const gone = new LinkDown('the link is closed')
    this.#requests.close(gone)
    this.#lane.close(gone)
    this.#limits.close(gone)
    this.arrivals?.close(gone)
    this.appState?.close()
    this.history?.close()
    this.groupNames?.close(gone)
    this.contacts?.close()
    this.usernames?.close(gone)
    if (!this.sock) return
    this.hosts.close()
    await release(this.sock, gone)
  }
}
