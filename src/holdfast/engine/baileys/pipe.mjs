// Standard input and output as lines of JSON. Reports of one iteration of the event loop are sent in one write.

const MAX_LINE_BYTES = 16 * 1024 * 1024
const MAX_UNREAD_BYTES = 128 * 1024 * 1024
const NEWLINE = 10

export class Pipe {
  #lines = []
  #parts = []
  #held = 0

  /**
   * @param take   object => void: one parsed line
   * @param fail   sentence => void: the pipe can't be used any more. Sentences never contain the content of a line.
   */
  constructor({ input, output, take, fail }) {
    this.output = output
    this.take = take
    this.fail = fail
    input.on('data', chunk => this.#read(chunk))
    input.on('end', () => fail('standard input ended'))
    input.on('error', () => fail('standard input broke'))
    output.on('error', () => fail('standard output broke'))
  }

  /** Whether the report was short enough to be sent. */
  write(report) {
    const line = stringify(report) + '\n'
    // UTF-8 has at most three bytes for a UTF-16 code unit; an exact count would cost more than it gains.
    if (line.length * 3 > MAX_LINE_BYTES && Buffer.byteLength(line) > MAX_LINE_BYTES) return false
    this.#lines.push(line)
    if (this.#lines.length === 1) setImmediate(() => this.flush())
    return true
  }

  log(level, message) {
    this.write({ r: 'log', level, message: String(message).slice(0, 200) })
  }

  flush() {
    if (!this.#lines.length) return
    this.output.write(this.#lines.join(''))
    this.#lines = []
    if (this.output.writableLength > MAX_UNREAD_BYTES) this.fail('the reports of the host are not read')
  }

  #read(chunk) {
    let from = 0
    for (let at = chunk.indexOf(NEWLINE); at !== -1; at = chunk.indexOf(NEWLINE, from)) {
      this.#parts.push(chunk.subarray(from, at))
      const line = this.#parts.length === 1 ? this.#parts[0] : Buffer.concat(this.#parts)
      this.#parts = []
      this.#held = 0
      this.#take(line)
      from = at + 1
    }
    if (from === chunk.length) return
    this.#parts.push(chunk.subarray(from))
    this.#held += chunk.length - from
    if (this.#held > MAX_LINE_BYTES) this.fail('a command is longer than a line of the pipe may be')
  }

  #take(line) {
    let command
    try {
      command = JSON.parse(line.toString())
    } catch {
      return this.fail(`a command of ${line.length} bytes is not JSON`)
    }
    this.take(command)
  }
}

// Baileys' protobuf reader turns invalid UTF-8, which anybody can put into a message, into lone surrogates. JSON can
// escape them and JavaScript parses them, but Holdfast rejects such a line as broken, and a broken line ends the host.
function stringify(report) {
  const line = JSON.stringify(report)
  return line.includes('\\ud') ? JSON.stringify(report, wellFormed) : line
}

function wellFormed(_, value) {
  if (typeof value === 'string') return value.toWellFormed()
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key.toWellFormed(), each]))
}
