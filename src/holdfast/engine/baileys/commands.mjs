// Carries out what Holdfast asks of an open link: messages, downloads, queries, operations. Each command is answered by
// one report, also when it fails.

import { DownloadFailed } from './mediahost.mjs'
import { QueryLimited } from './querylimits.mjs'
import { failureOf, refusalCode } from './refusals.mjs'

const MOST_ANSWER_CHARS = 5_000_000 // a report longer than a line of the pipe would end the link

export class Commands {
  /**
   * @param parts        () => the link's {outbound, hosts, queries, operations}; throws LinkDown while it is not open
   * @param afterFrames  callback => void: calls it when every frame before it has been sent
   * @param report       report => void
   */
  constructor({ parts, afterFrames, report }) {
    Object.assign(this, { parts, afterFrames, report })
  }

  async send(command) {
    const { whatsappId } = command
    try {
      const members = await this.parts().outbound.send(command)
      this.afterFrames(() => this.report({ r: 'written', whatsappId, members }))
    } catch (error) {
      const { retryAfterS } = [error, error.cause].find(each => each instanceof QueryLimited) ?? {}
      this.report({ r: 'send-refused', whatsappId, code: refusalCode(error), detail: detailOf(error), retryAfterS })
    }
  }

  async download({ request, mediaKeys, file, mostBytes }) {
    try {
      const sizeBytes = await this.parts().hosts.download({ keys: JSON.parse(mediaKeys), file, mostBytes })
      this.report({ r: 'downloaded', request, sizeBytes })
    } catch (error) {
      const code = error instanceof DownloadFailed ? error.code : 'engine-error'
      this.report({ r: 'downloaded', request, error: code, detail: detailOf(error) })
    }
  }

  query({ request, name, arguments: given }) {
    return this.#answer({ r: 'query-answered', request }, () => this.parts().queries.run(name, given))
  }

  operation(command) {
    const { operation, step } = command
    return this.#answer({ r: 'operation-answered', operation, step }, () => this.parts().operations.run(command))
  }

  async #answer(head, ask) {
    try {
      const result = await ask()
      if (JSON.stringify(result).length > MOST_ANSWER_CHARS) throw new Error('the answer is too long')
      this.report({ ...head, result })
    } catch (error) {
      this.report({ ...head, ...failureOf(error) })
    }
  }
}

const detailOf = error => String(error.message).slice(0, 200)
