// Media through the simulated WhatsApp's media host, by two bare Baileys: up, down, and refused.
//
//   NODE_EXTRA_CA_CERTS=CA node wasim_media.mjs BAILEYS_DIR WASIM_URL CONTROL_URL BYTES
import { createHash } from 'node:crypto'
import { Session, baileys, post, report } from './wasim_session.mjs'

const bytes = Number(process.argv[5])
const sha = data => createHash('sha256').update(data).digest('hex')
const memory = () => Math.round(process.memoryUsage().rss / 1e6)

async function download(message, kind) {
  const stream = await baileys.downloadContentFromMessage(message, kind)
  const digest = createHash('sha256')
  let size = 0
  for await (const chunk of stream) {
    size += chunk.length
    digest.update(chunk)
  }
  return { size, sha: digest.digest('hex') }
}

try {
  const a = new Session('962401')
  await a.open()
  const document = Buffer.alloc(bytes, 'wasim')
  const chat = '962402@s.whatsapp.net'
  await post('/phones', { number: '962402', name: 'Receiver' })

  const started = Date.now()
  const sent = await a.sock.sendMessage(chat, { document, mimetype: 'application/pdf', fileName: 'big.pdf', caption: 'the big one' })
  await a.until('the ack', s => s.acks.some(ack => ack.id === sent.key.id))
  report({ event: 'up', id: sent.key.id, ms: Date.now() - started, sha: sha(document), size: bytes, rss: memory() })

  const again = await download(sent.message.documentMessage, 'document')
  report({ event: 'down', ...again })

  const refused = await post('/faults', { kind: 'media-refuse', status: 500, direction: 'up', count: 1 })
  const outcome = await a.sock.sendMessage(chat, { image: Buffer.alloc(1000, 1), jpegThumbnail: '' }).then(() => 'sent', error => error.message)
  report({ event: 'refused', outcome, fault: refused.id })

  await post('/faults', { kind: 'media-cut', direction: 'down', afterBytes: 65536, count: 1 })
  // Baileys does not reject the promise of an interrupted download: the error is an uncaught exception.
  const uncaught = new Promise(resolve => process.once('uncaughtException', () => resolve('broken off')))
  const complete = download(sent.message.documentMessage, 'document').then(() => 'complete', () => 'broken off')
  const cut = await Promise.race([uncaught, complete])
  report({ event: 'cut', outcome: cut })
  process.exit(0)
} catch (error) {
  report({ event: 'failed', error: String(error?.stack ?? error) })
  process.exit(1)
}
