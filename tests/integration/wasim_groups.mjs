// A group of two bare Baileys and a simulated phone, messages of every kind from the phone, and a message that is
// requested again. Prints what happened as JSON lines.
//
//   NODE_EXTRA_CA_CERTS=CA node wasim_groups.mjs BAILEYS_DIR WASIM_URL CONTROL_URL
import { createHash } from 'node:crypto'
import { Session, baileys, post, report } from './wasim_session.mjs'

const phone = '962503'
const sha = data => createHash('sha256').update(data).digest('hex')

// Stores complete messages.
class Member extends Session {
  connect() {
    const outcome = super.connect()
    this.messages = []
    this.locks = []
    this.sock.ev.on('messages.upsert', ({ messages }) => {
      for (const message of messages) this.record('messages', message)
    })
    this.sock.ev.on('groups.upsert', groups => groups.forEach(group => this.record('updates', { group: group.id, size: group.participants.length })))
    this.sock.ev.on('connection.update', ({ reachoutTimeLock }) => reachoutTimeLock && this.record('locks', reachoutTimeLock))
    return outcome
  }

  async message(id) {
    await this.until(`message ${id}`, s => s.messages.some(m => m.key.id === id && m.message))
    return this.messages.find(m => m.key.id === id && m.message)
  }
}

try {
  const a = new Member('962501')
  const b = new Member('962502')
  await a.open()
  await b.open()
  await post('/phones', { number: phone, name: 'Carol' })

  for (const addressing of ['lid', 'pn']) {
    const group = await post('/groups', { subject: `Team ${addressing}`, members: ['962501', '962502', phone], addressing })
    await a.until('the new group', s => s.updates.some(u => u.group === group.id))
    const metadata = await a.sock.groupMetadata(group.id)
    const all = await a.sock.groupFetchAllParticipating()

    const texts = []
    for (const text of ['one', 'two']) {
      const sent = await a.sock.sendMessage(group.id, { text })
      const got = await b.message(sent.key.id)
      texts.push([got.message.extendedTextMessage?.text ?? got.message.conversation, got.key.participantAlt?.split('@')[0].split(':')[0]])
      await a.until('the ack', s => s.acks.some(ack => ack.id === sent.key.id && !ack.error))
    }
    const sent = await post(`/phones/${phone}/send`, { to: group.id, text: 'from the phone' })
    const [first, second] = [await a.message(sent.id), await b.message(sent.id)]
    const answer = await b.sock.sendMessage(group.id, { text: 'answer' }, { quoted: second })
    await a.message(answer.key.id)
    report({
      event: addressing, id: group.id, subject: metadata.subject, addressing: metadata.addressingMode, size: metadata.participants.length,
      groups: Object.keys(all).length, texts, answer: answer.key.id, sent: sent.id,
      received: [first, second].map(m => [m.message.conversation, m.key.participant.includes(addressing === 'lid' ? '@lid' : '@s.whatsapp.net')])
    })
  }

  const chat = { to: '962501' }
  const plain = await post(`/phones/${phone}/send`, { ...chat, text: 'plain' })
  await a.message(plain.id)
  const image = await post(`/phones/${phone}/send`, { ...chat, image: { sizeBytes: 300_000, mimetype: 'image/png', caption: 'look' } })
  const picture = (await a.message(image.id)).message.imageMessage
  const bytes = []
  for await (const chunk of await baileys.downloadContentFromMessage(picture, 'image')) bytes.push(chunk)
  const own = await a.sock.sendMessage(`${phone}@s.whatsapp.net`, { text: 'mine' })
  await a.until('the ack', s => s.acks.some(ack => ack.id === own.key.id))
  const kinds = {}
  for (const [name, content] of Object.entries({
    reply: { text: 'a reply', replyTo: own.key.id },
    reaction: { reaction: { id: own.key.id, emoji: '❤' } },
    location: { location: { latitude: 31.95, longitude: 35.93, name: 'Amman' } },
    contact: { contact: { name: 'Dan', vcard: 'BEGIN:VCARD\nEND:VCARD' } },
    edit: { edit: { id: plain.id, text: 'edited' } },
    delete: { delete: { id: plain.id } }
  })) {
    const { id } = await post(`/phones/${phone}/send`, { ...chat, ...content })
    const { message } = await a.message(id)
    kinds[name] = message
  }
  report({
    event: 'kinds', image: { caption: picture.caption, mimetype: picture.mimetype, same: sha(Buffer.concat(bytes)) === image.sha256 },
    reply: [kinds.reply.extendedTextMessage.contextInfo.stanzaId === own.key.id, kinds.reply.extendedTextMessage.contextInfo.quotedMessage],
    reaction: [kinds.reaction.reactionMessage.text, kinds.reaction.reactionMessage.key.fromMe, kinds.reaction.reactionMessage.key.id === own.key.id],
    location: kinds.location.locationMessage.name, contact: kinds.contact.contactMessage.displayName,
    edit: [kinds.edit.protocolMessage.editedMessage.conversation, kinds.edit.protocolMessage.key.id === plain.id],
    delete: [kinds.delete.protocolMessage.type, kinds.delete.protocolMessage.key.id === plain.id]
  })

  const to = `${phone}@s.whatsapp.net`
  const sticky = await a.sock.sendMessage(to, { text: 'to be edited' })
  const jid = { remoteJid: to, fromMe: true }
  await a.sock.sendMessage(to, { edit: { ...jid, id: sticky.key.id }, text: 'better' })
  const gone = (await a.sock.sendMessage(to, { text: 'to be deleted' })).key.id // Baileys changes its answer afterwards
  await a.sock.sendMessage(to, { delete: { ...jid, id: gone } })
  await a.sock.sendMessage(to, { react: { text: '👍', key: { remoteJid: to, fromMe: false, id: plain.id } } })
  const voice = await a.sock.sendMessage(to, { audio: Buffer.alloc(5000, 7), mimetype: 'audio/ogg; codecs=opus', ptt: true, seconds: 2 })
  const here = await a.sock.sendMessage(to, { location: { degreesLatitude: 1.5, degreesLongitude: -2.5, name: 'Here' } })
  await a.sock.sendPresenceUpdate('composing', to)
  await a.until('the last ack', s => s.acks.some(ack => ack.id === here.key.id))
  report({ event: 'written', edited: sticky.key.id, deleted: gone, voice: voice.key.id, reacted: plain.id, sha: sha(Buffer.alloc(5000, 7)) })

  await post('/faults', { kind: 'corrupt', number: '962501', count: 2 })
  const damaged = await post(`/phones/${phone}/send`, { ...chat, text: 'damaged once' })
  const group = (await fetch(process.argv[4] + '/groups').then(r => r.json()))[0]
  const inGroup = await post(`/phones/${phone}/send`, { to: group.id, text: 'damaged in the group' })
  const resent = [(await a.message(damaged.id)).message, (await a.message(inGroup.id)).message]
  report({ event: 'resent', texts: resent.map(m => m.conversation) })

  await post('/faults', { kind: 'reach-out-lock', number: '962501', seconds: 600 })
  await a.until('the lock', s => s.locks.some(lock => lock.isActive))
  await post('/phones', { number: '962599', name: 'Stranger' })
  const cold = await a.sock.sendMessage('962599@s.whatsapp.net', { text: 'hello?' })
  const warm = await a.sock.sendMessage(to, { text: 'still there' })
  await a.until('both acks', s => [cold, warm].every(m => s.acks.some(ack => ack.id === m.key.id)))
  const state = await a.sock.fetchAccountReachoutTimelock()
  report({ event: 'locked', cold: a.acks.find(ack => ack.id === cold.key.id).error, warm: a.acks.find(ack => ack.id === warm.key.id).error ?? null, active: state.isActive })
  process.exit(0)
} catch (error) {
  report({ event: 'failed', error: String(error?.stack ?? error) })
  process.exit(1)
}
