// Mutes the console. Imported before anything else.
//
// libsignal prints whole sessions, private keys included, through console.info ("Closing session:"), and standard
// output is the pipe to Holdfast. Nothing in this process has a reason to use the console: the bridge logs through
// `Pipe.log`.

for (const name of Object.keys(console)) {
  if (typeof console[name] === 'function') console[name] = () => {}
}

// Baileys captures a stack trace for every query and frame (`promiseTimeout`). Nobody reads them, and they are a tenth
// of the cost of a message.
Error.stackTraceLimit = 0

// Baileys requires a pino logger. This one discards everything, so it never holds a node, a key or a text.
export const silentLogger = {
  level: 'silent',
  fatal() {},
  error() {},
  warn() {},
  info() {},
  debug() {},
  trace() {},
  child() {
    return silentLogger
  }
}
