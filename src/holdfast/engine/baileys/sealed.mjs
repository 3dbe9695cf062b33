// Decrypts answers that are encrypted with a secret of the message they answer: votes in polls, answers to events, and
// reactions, comments and edits in communities. Only somebody who has the answered message can decrypt them.

import { createHash } from 'node:crypto'

import { aesDecryptGCM, hkdf, jidNormalizedUser, proto } from 'baileys'

import { LIST_ITEMS, mayBeOurs } from './bounds.mjs'
import { describe } from './description.mjs'

const { EventResponseMessage, PollVoteMessage, ReactionMessage } = proto.Message
const RESPONSES = { [EventResponseMessage.EventResponseType.GOING]: 'going', [EventResponseMessage.EventResponseType.NOT_GOING]: 'not_going', [EventResponseMessage.EventResponseType.MAYBE]: 'maybe' }

// By the name of the use, which is part of the key derivation. Each: decrypted bytes, the answered message -> {text?, content?, …}.
const USES = {
  'Poll Vote': voteOf,
  'Event Response': bytes => {
    const { response, extraGuestCount } = EventResponseMessage.decode(bytes)
    const answer = RESPONSES[response] ?? 'unknown'
    return { text: answer.replace('_', ' '), content: { eventResponse: { answer, extraGuests: extraGuestCount || 0 } } }
  },
  'Enc Reaction': bytes => ({ content: { reaction: { emoji: ReactionMessage.decode(bytes).text ?? '' } } }),
  'Enc Comment': messageOf,
  'Event Edit': messageOf
}
const WITH_ADDITIONAL_DATA = new Set(['Poll Vote', 'Event Response'])

/**
 * Decrypts an answer into fields of a description. If that is not possible, `content.unreadable` says why:
 * `message-unknown` (the answered message is not stored here) or `undecryptable`.
 *
 * @param sealed    {use, payload, iv, creator?}: `creator`: the author of the answered message, as the answer names it
 * @param target    id of the answered message
 * @param senders   identifiers of the answer's sender: phone number and hidden id, as far as they are known
 * @param answered  {secret, senders, content} of the answered message, or null
 */
export function answerOf({ use, payload, iv, creator: claimed }, { target, senders, answered }) {
  if (!answered?.secret) return unreadable('message-unknown')
  for (const creator of named([...answered.senders, claimed])) {
    for (const sender of named(senders)) {
      try {
        const key = hkdf(Buffer.from(answered.secret, 'base64'), 32, { info: [target, creator, sender, use].join('') })
        const additional = Buffer.from(WITH_ADDITIONAL_DATA.has(use) ? `${target}\0${sender}` : '')
        return USES[use](aesDecryptGCM(payload, key, iv, additional), answered)
      } catch {
        // Encrypted with other identifiers of the two people, or by somebody who does not have the message.
      }
    }
  }
  return unreadable('undecryptable')
}

/**
 * Looks up the message that an encrypted answer refers to, in the inbox or among the messages that Holdfast sent.
 *
 * @param ask    async request => answer of Holdfast's store
 * @param again  async (id, chat, sent content) => the message as it was sent, or undefined
 * @param me     () => {id, lid} of this account
 */
export const answeredMessages = ({ ask, again, me }) => async (chat, whatsappId) => {
  if (!whatsappId) return null
  const { id, lid } = me()
  const received = await ask({ r: 'answered-message-wanted', chat, whatsappId })
  if (received) return { ...received, senders: received.fromMe ? [id, lid] : [received.sender, received.senderLid] }
  if (!mayBeOurs(whatsappId)) return null
  const message = await again(whatsappId, chat, await ask({ r: 'sent-content-wanted', chat, whatsappId }))
  const { content, messageSecret: secret } = (message && describe(message)) ?? {}
  return secret ? { secret, content, senders: [id, lid] } : null
}

// A vote contains hashes of the options; without any, the vote was withdrawn.
function voteOf(bytes, { content }) {
  const options = content?.poll?.options ?? []
  const hashes = PollVoteMessage.decode(bytes).selectedOptions
  const chosen = new Set(hashes.slice(0, LIST_ITEMS).map(hash => Buffer.from(hash).toString('hex')))
  const votes = options.filter(option => chosen.has(sha256(option)))
  const unknown = hashes.length - votes.length
  return { text: votes.join(', ') || undefined, content: { poll: { options, votes, ...(unknown > 0 && { unknownVotes: unknown }) } } }
}

function messageOf(bytes) {
  const { type, target, sealed, messageSecret, ...rest } = describe(proto.Message.decode(bytes)) ?? {}
  return rest
}

const unreadable = code => ({ content: { encrypted: true, unreadable: code } })
const named = jids => [...new Set(jids.filter(Boolean).map(jid => jidNormalizedUser(jid)))]
const sha256 = text => createHash('sha256').update(text).digest('hex')
