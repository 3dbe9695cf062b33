// Makes the parts of a link around a new Baileys socket, and connects them with each other.

import { Answers } from './answers.mjs'
import { AppState } from './appstate.mjs'
import { Arrivals } from './arrivals.mjs'
import { Calls } from './calls.mjs'
import { ContactPresence } from './contactpresence.mjs'
import { GroupNames } from './groupnames.mjs'
import { Groups } from './groups.mjs'
import { History } from './history.mjs'
import { currentMappings, Inbound } from './inbound.mjs'
import { MediaHosts } from './mediahost.mjs'
import { NewChatLocks } from './newchatlocks.mjs'
import { Operations } from './operations.mjs'
import { Outbound } from './outbound.mjs'
import { PasskeyCeremony, deviceTypeOf } from './passkey.mjs'
import { Presence } from './presence.mjs'
import { storePrivacyTokens } from './privacytokens.mjs'
import { Queries } from './queries.mjs'
import { QrCodes } from './qrcodes.mjs'
import { DevicesCache, Recipients } from './recipients.mjs'
import { signalRepositoryMaker, writePreKeysThrough } from './repository.mjs'
import { Route } from './routes.mjs'
import { answeredMessages } from './sealed.mjs'
import { BROWSER, makeSocket } from './socket.mjs'
import { Usernames } from './usernames.mjs'

/**
 * All parts, by name. Some call others that are made after them, so they look them up when they need them.
 *
 * @param link  {order, creds, store, lane, limits, requests}, and functions of the link:
 *              report(report), commit(content) => seq, durable(seq) => promise, note(facts), showQr(qr, validMs), noQrLeft()
 */
export function assemble(link) {
  const parts = {}
  beforeSocket(parts, link)
  const devices = new DevicesCache()
  parts.route = new Route(link.order)
  parts.sock = makeSocket({ order: link.order, route: parts.route, ...socketConfig(parts, link, devices) })
  aroundSocket(parts, link, devices)
  // Messages for retry receipts come from the outbox, which also survives a restart.
  if (parts.sock.messageRetryManager) parts.sock.messageRetryManager.addRecentMessage = () => {}
  writePreKeysThrough(parts.sock.authState.keys, link.store)
  return parts
}

// What the configuration of the socket needs.
function beforeSocket(parts, link) {
  const { creds, store, limits, requests } = link
  const phonesOf = async lids => {
    const found = await parts.sock.signalRepository.lidMapping.getPNsForLIDs(lids)
    return currentMappings(found, (type, ids) => store.get(type, ids))
  }
  parts.appState = new AppState({
    phonesOf,
    commit: ({ changes, versions }) => store.commitVersions(versions, changes)
  })
  parts.groups = new Groups({ ask: jid => limits.run('w:g2', () => parts.sock.groupMetadata(jid)) })
  parts.inbound = new Inbound({
    me: () => creds.me,
    phonesOf,
    answered: answeredMessages({
      ask: question => requests.ask(question),
      again: (id, chat, sent) => parts.outbound.again(id, chat, sent),
      me: () => creds.me
    })
  })
  parts.history = new History({
    wanted: link.order.history,
    hosts: () => parts.hosts,
    inbound: parts.inbound,
    commit: link.commit,
    durable: link.durable,
    learn: mappings => parts.sock.signalRepository.lidMapping.storeLIDPNMappings(mappings),
    tokens: conversations => storePrivacyTokens(conversations, parts.sock),
    ledger: {
      get: () => creds.additionalData?.history ?? { parts: [], lost: 0 },
      set: history => link.note({ history })
    }
  })
  parts.groupNames = new GroupNames({ groups: parts.groups, commit: groups => link.commit({ groups }) })
  parts.usernames = new Usernames({
    ask: node => limits.run(node.attrs.xmlns, () => parts.sock.query(node)),
    commit: usernames => link.commit({ usernames })
  })
  parts.arrivals = new Arrivals({
    inbound: parts.inbound,
    missed: undecryptable => link.commit({ undecryptable: [undecryptable] }),
    arrived: decrypted => link.commit({ decrypted: [decrypted] }),
    peek: (type, id) => store.peek(type, id)
  })
}

function socketConfig(parts, link, userDevicesCache) {
  const { creds, store, requests } = link
  return {
    auth: { creds, keys: store },
    userDevicesCache,
    cachedGroupMetadata: jid => parts.groups.get(jid),
    getMessage: key => parts.outbound.requestedAgain(key),
    shouldSyncHistoryMessage: parts.history.take,
    makeSignalRepository: signalRepositoryMaker({
      store,
      inbound: parts.inbound,
      recall: ciphertextSha256 => requests.ask({ r: 'plaintext-wanted', ciphertextSha256 }),
      missed: undecryptable => link.commit({ undecryptable: [undecryptable] })
    })
  }
}

// What uses the socket.
function aroundSocket(parts, link, devices) {
  const { sock, groups, route } = parts
  const { creds, store, limits, report } = link
  parts.presence = new Presence(sock, creds)
  parts.appState.listen(sock.ev)
  const query = node => limits.run(node.attrs.xmlns, () => sock.query(node))
  parts.hosts = new MediaHosts({ query, route })
  route.mediaOrigin = () => parts.hosts.origin()
  parts.passkey = new PasskeyCeremony({
    query: sock.query,
    creds,
    changed: changes => sock.ev.emit('creds.update', Object.assign(creds, changes)),
    deviceType: deviceTypeOf(BROWSER),
    report
  })
  parts.codes = new QrCodes({
    isBusy: () => parts.passkey.isUnderWay,
    shown: link.showQr,
    usedUp: link.noQrLeft
  })
  const recipients = new Recipients({ sock, store, devices, groups, limits })
  parts.queries = new Queries({ sock, limits, groups, history: parts.history, route })
  parts.operations = new Operations({
    sock,
    limits,
    groups,
    me: () => creds.me,
    settled: (event, data) => sock.ev.emit(event, data)
  })
  parts.locks = new NewChatLocks({ sock, report })
  parts.answers = new Answers({ sock, creds, store, recipients, groups, locks: parts.locks, report })
  const plain = jid => parts.answers.plain(jid)
  const isMe = jid => parts.answers.isMe(jid)
  parts.calls = new Calls({ plain, isMe, commit: calls => link.commit({ calls }) })
  parts.contacts = new ContactPresence({ plain, isMe, report })
  parts.outbound = new Outbound({
    sock,
    creds,
    lane: link.lane,
    recipients,
    groups,
    hosts: parts.hosts,
    commitMade: made => link.commit({ made: [made] }),
    plain,
    ask: question => link.requests.ask(question)
  })
}
