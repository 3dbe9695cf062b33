// Links bare Baileys with `useMultiFileAuthState`, talks to a phone a little, and leaves the folders behind.
//
//   node bare_auth_folder.mjs BAILEYS_DIR WASIM_URL CONTROL_URL PHONE NUMBER FOLDER [NUMBER FOLDER ...]
//
// With a folder that is linked already it logs in without a QR code, says what waited, and ends. Prints one JSON line for
// each folder, in their order.
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [dir, url, control, phone, ...bots] = process.argv.slice(2)
for (const name of ['log', 'info', 'warn', 'error', 'debug']) console[name] = () => {} // libsignal prints keys

const require = createRequire(join(dir, 'package.json'))
const { makeWASocket, useMultiFileAuthState } = await import(pathToFileURL(require.resolve('baileys')))
const pino = (await import(pathToFileURL(require.resolve('pino')))).default
const logger = pino({ level: 'silent' })

const post = async (path, body) => {
  const answer = await fetch(control + path, { method: 'POST', body: JSON.stringify(body) })
  if (!answer.ok) throw new Error(`${path}: ${await answer.text()}`)
}

async function run(number, folder) {
  const { state, saveCreds } = await useMultiFileAuthState(folder)
  const wasLinked = Boolean(state.creds.me)
  const received = []
  let qrs = 0
  let heard = () => {}

  function connect() {
    const sock = makeWASocket({ auth: state, waWebSocketUrl: url, logger, getMessage: async () => undefined })
    sock.ev.on('creds.update', saveCreds)
    sock.ev.on('messages.upsert', ({ messages }) => {
      for (const { key, message } of messages) {
        const text = message?.conversation ?? message?.extendedTextMessage?.text
        if (text && !key.fromMe) received.push(text)
      }
      heard()
    })
    return new Promise((resolve, reject) => {
      sock.ev.on('connection.update', ({ qr, connection, lastDisconnect }) => {
        if (qr) qrs += 1
        if (qr) post(`/phones/${number}/scan`, { qr }).catch(reject)
        if (connection === 'open') resolve(sock)
        if (connection === 'close') resolve(lastDisconnect?.error?.output?.statusCode)
      })
    })
  }

  const until = async condition => {
    while (!condition()) await new Promise(resolve => (heard = resolve))
  }

  let sock
  do sock = await connect()
  while (sock === 515)
  if (!wasLinked) {
    await sock.sendMessage(`${phone}@s.whatsapp.net`, { text: 'from the bot' })
    await post(`/phones/${phone}/send`, { to: number, text: 'to the bot' })
  }
  await until(() => received.length)
  await new Promise(resolve => setTimeout(resolve, 500)) // receipts go out, files are written
  await saveCreds()
  await sock.end(undefined)
  return { qrs, received }
}

setTimeout(() => process.exit(1), 30_000).unref()
const pairs = bots.flatMap((number, index) => (index % 2 ? [] : [[number, bots[index + 1]]]))
const told = await Promise.all(pairs.map(pair => run(...pair)))
process.stdout.write(told.map(each => JSON.stringify(each) + '\n').join(''))
process.exit(0)
