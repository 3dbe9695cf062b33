// The subjects of the groups that messages come from: queried once per link, one group at a time, and updated from the
// notification when one changes. WhatsApp's stanzas identify a group only by its id.

import { isJidGroup } from 'baileys'

import { Lane } from './lane.mjs'
import { QueryLimited } from './querylimits.mjs'

const LONGEST = 256 // characters; WhatsApp's apps stop at 100
const MOST_KNOWN = 10_000

export class GroupNames {
  #lane = new Lane()
  #known = new Set()

  /**
   * @param groups  the link's Groups
   * @param commit  {JID: subject} => void
   */
  constructor({ groups, commit }) {
    Object.assign(this, { groups, commit })
  }

  /** A message arrived from this group. */
  observe(jid) {
    if (!isJidGroup(jid) || this.#known.has(jid) || this.#known.size >= MOST_KNOWN) return
    this.#known.add(jid)
    const learn = async () => this.#learn(jid, (await this.groups.get(jid)).subject)
    // Without an answer the group has no name until the next link; under a rate limit, until the next message.
    this.#lane.run(learn).catch(error => error instanceof QueryLimited && this.#known.delete(jid))
  }

  /** A notification about a group arrived. */
  changed({ attrs, content }) {
    const subject = Array.isArray(content) && content.find(({ tag }) => tag === 'subject')?.attrs.subject
    if (subject && isJidGroup(attrs.from)) this.#learn(attrs.from, subject)
  }

  close(error) {
    this.#lane.close(error)
  }

  #learn(jid, subject) {
    if (typeof subject === 'string' && subject) this.commit({ [jid]: subject.slice(0, LONGEST).toWellFormed() })
  }
}
