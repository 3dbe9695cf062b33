// Mutes the console. Imported before anything else.
//
// libsignal prints whole sessions, private keys included, through console.info ("Closing session:"), and standard
// output is the pipe to Holdfast. Nothing of this process has a reason to use the console: what the bridge has to
// say goes through `Pipe.log`.

for (const name of Object.keys(console)) {
  if (typeof console[name] === 'function') console[name] = () => {}
}

// Baileys takes a stack trace for every query and frame (`promiseTimeout`); nobody here ever reads one, and they are a
// tenth of the cost of a message.
Error.stackTraceLimit = 0

// Baileys wants a pino logger. This one has no level, makes no strings, and so never holds a node, a key or a text.
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
