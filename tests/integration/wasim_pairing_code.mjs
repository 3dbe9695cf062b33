// Links one bare Baileys to a simulated WhatsApp by pairing code: a wrong one first, then the right one.
//
//   node wasim_pairing_code.mjs BAILEYS_DIR WASIM_URL CONTROL_URL NUMBER
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { join } from 'node:path'

const [dir, url, control, number] = process.argv.slice(2)
for (const name of ['log', 'info', 'warn', 'error', 'debug']) console[name] = () => {} // libsignal prints keys

const require = createRequire(join(dir, 'package.json'))
const { makeWASocket, initAuthCreds } = await import(pathToFileURL(require.resolve('baileys')))
const pino = (await import(pathToFileURL(require.resolve('pino')))).default
const logger = pino({ level: 'silent' })

const enter = async code => {
  const answer = await fetch(`${control}/phones/${number}/code`, { method: 'POST', body: JSON.stringify({ code }) })
  return { status: answer.status, ...(await answer.json()) }
}

const keys = new Map()
const store = {
  get: async (type, ids) => Object.fromEntries(ids.map(id => [id, keys.get(`${type}/${id}`)]).filter(([, v]) => v)),
  set: async update => {
    for (const [type, values] of Object.entries(update)) {
      for (const [id, value] of Object.entries(values)) keys.set(`${type}/${id}`, value)
    }
  }
}

async function connect(creds, onShown) {
  const sock = makeWASocket({ auth: { creds, keys: store }, waWebSocketUrl: url, logger, getMessage: async () => undefined })
  sock.ev.on('creds.update', update => Object.assign(creds, update))
  let asked = false
  return new Promise((resolve, reject) => {
    sock.ev.on('connection.update', update => {
      if (update.qr && !asked) {
        asked = true
        sock.requestPairingCode(number).then(onShown).catch(reject)
      }
      if (update.connection === 'open') resolve('open')
      if (update.connection === 'close') resolve(update.lastDisconnect?.error?.output?.statusCode)
    })
  })
}

const told = {}
const wrong = initAuthCreds()
connect(wrong, async () => { told.wrong = await enter('AAAA-1111'); await second() })

async function second() {
  const creds = initAuthCreds()
  let outcome = await connect(creds, async code => { told.right = await enter(code) })
  if (outcome === 515) outcome = await connect(creds, () => {})
  process.stdout.write(JSON.stringify({ ...told, outcome, me: creds.me?.id }) + '\n')
  process.exit(0)
}
