// Links two bare Baileys to a simulated WhatsApp, sends texts between them, and prints what happened as JSON lines.
//
//   node wasim_bare_baileys.mjs BAILEYS_DIR WASIM_URL CONTROL_URL [NUMBER_A NUMBER_B]
import { Session, post, report } from './wasim_session.mjs'

const [numberA = '962302', numberB = '962303'] = process.argv.slice(5)

try {
  const a = new Session(numberA)
  const b = new Session(numberB)
  report({ event: 'opened', number: numberA, ms: await a.open() })
  report({ event: 'opened', number: numberB, ms: await b.open() })

  const start = Date.now()
  const { key } = await a.sock.sendMessage(`${numberB}@s.whatsapp.net`, { text: 'hello' })
  await a.until('the ack', s => s.acks.some(ack => ack.id === key.id))
  await b.until('the text', s => s.received.some(m => m.id === key.id && m.text === 'hello'))
  await a.until('the delivery', s => s.updates.some(u => u.id === key.id && u.status === 3))
  await a.until('the read receipt', s => s.updates.some(u => u.id === key.id && u.status === 4))
  report({ event: 'sent', ms: Date.now() - start, received: b.received.at(-1), ack: a.acks.at(-1) })

  const answerTo = b.received.at(-1).from
  const answer = await b.sock.sendMessage(answerTo, { text: 'hello back' })
  await a.until('the answer', s => s.received.some(m => m.id === answer.key.id && m.text === 'hello back'))
  report({ event: 'answered', received: a.received.at(-1) })

  const phone = '962399'
  await post('/phones', { number: phone })
  const acked = id => a.until(`the ack of ${id}`, s => s.acks.some(ack => ack.id === id))
  const write = async text => {
    const sent = await a.sock.sendMessage(`${phone}@s.whatsapp.net`, { text })
    await acked(sent.key.id)
    return sent.key.id
  }
  for (const text of ['one', 'two']) await write(text)
  const { id: sentByPhone } = await post(`/phones/${phone}/send`, { to: numberA, text: 'three' })
  await a.until("the phone's text", s => s.received.some(m => m.id === sentByPhone && m.text === 'three'))
  await write('four')
  report({ event: 'phone-answered', received: a.received.find(m => m.id === sentByPhone) })

  // A client that loses its newest key update encrypts the next message with a key that was used before.
  const before = new Map([...a.keys.data].filter(([name]) => name.startsWith('session/')).map(([name, value]) => [name, structuredClone(value)]))
  await write('five')
  for (const [name, value] of before) a.keys.data.set(name, value)
  const reused = await write('six')
  await a.until('the retry to be answered', s => s.acks.filter(ack => ack.id === reused).length > 1)
  report({ event: 'reused', id: reused })

  await a.sock.end(undefined)
  const missed = await b.sock.sendMessage(answerTo, { text: 'while you were away' })
  await b.until('its ack', s => s.acks.some(ack => ack.id === missed.key.id))
  const reopened = await a.open()
  await a.until('the missed text', s => s.received.some(m => m.id === missed.key.id && m.text !== null))
  report({ event: 'missed-received', ms: reopened, received: a.received.at(-1) })

  const [unknown] = await b.sock.onWhatsApp('99999999999')
  report({ event: 'done', unknownExists: unknown?.exists ?? false })
  process.exit(0)
} catch (error) {
  report({ event: 'failed', error: String(error) })
  process.exit(1)
}
